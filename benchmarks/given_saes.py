"""The cost of scoring SAEs that abench did not train, on the bundled model.

Folders against the same SAEs in a results folder, and a class that abench does not know against the known
class of the same SAE.
`python benchmarks/given_saes.py [--saes 8] [--width 2048] [--wide 8192] [--tasks core,scr]`.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import machine, table

import abench
from abench.conformance.rewritten import Bare
from abench.variants import SAEShape, get_variant, load_sae, save_sae

SITE, D_IN, K = "blocks.1.hook_resid_post", 128, 16
TASKS = ("core", "sparse_probing", "scr", "tpp", "absorption", "unlearning")
TRAINING = {"tokens": 4096, "batch_size": 1024, "buffer_tokens": 4096, "calibration_tokens": 4096}


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of this process, which other work on the machine hardly changes."""
    started = time.process_time()
    done = call()
    assert not done.failed, done.failed
    return time.process_time() - started


def own_and_given(saes: int, width: int, tasks: list[str]) -> dict[str, float]:
    """Scoring trained SAEs of a results folder, and copies of their folders."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        run = {"layers": [1], "variants": ["topk"], "k": [K], "width": width, "seeds": list(range(saes))}
        run |= {"training": TRAINING, "results": root / "own", "tasks": tasks}
        abench.run(**{**run, "tasks": ["core"], "evaluation": {"tokens": 1024}})  # trains
        folders = {}
        for number, folder in enumerate(sorted((root / "own" / "saes").glob("*/*/*"))):
            folders[f"sae-{number}"] = shutil.copytree(folder, root / f"sae-{number}")
        return {
            f"{saes} trained SAEs": seconds(lambda: abench.run(**run)),
            f"{saes} folders": seconds(
                lambda: abench.evaluate(folders, model="tiny", tasks=tasks, results=root / "given")
            ),
        }


def known_and_unknown(width: int, variant: str, tasks: list[str]) -> dict[str, float]:
    """Scoring one SAE by its class's fast routines, and by its own `encode` and `decode`."""
    x = abench.activations_of(
        "tiny", [document.text for document in abench.tinyworld.World().reviews("train", 200)], SITE
    )
    with tempfile.TemporaryDirectory() as folder:
        sae = get_variant(variant, {}).build(SAEShape(D_IN, width, K), seed=0)
        with torch.no_grad():
            sae.b_dec.copy_(x.mean(0))
        save_sae(sae, Path(folder), scale=1.0, metadata={})
        known = load_sae(Path(folder))
    return {
        f"{variant}, {each}": seconds(
            lambda given=given: abench.evaluate(given, model="tiny", site=SITE, tasks=tasks)
        )
        for each, given in (("known class", known), ("unknown class", Bare(known)))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saes", type=int, default=8)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--wide", type=int, default=8192)
    parser.add_argument("--tasks", default=",".join(TASKS))
    asked = parser.parse_args()
    tasks = asked.tasks.split(",")
    print(machine())
    own_and_given(1, asked.width, tasks)  # what is read and compiled on first use counts for neither
    rows = []
    for found in (
        own_and_given(asked.saes, asked.width, tasks),
        known_and_unknown(asked.wide, "topk", tasks),
        known_and_unknown(asked.wide, "abstopk", tasks),
    ):
        first = next(iter(found.values()))
        rows += [(name, f"{took:.1f}", f"{took / first:.2f}") for name, took in found.items()]
    print(table(("scoring", "seconds", "ratio"), rows))


if __name__ == "__main__":
    main()
