"""Time of the core task against sae-bench's core evaluation, on the same model, tokens and SAEs.

sae-bench's `run_evals` is called with all its measurements, on abench's model with the interface of a
HookedTransformer. It evaluates each SAE separately; abench runs the clean and the ablated passes once.
`python benchmarks/core.py [--saes 8] [--width 2048] [--rows 160] [--repeat 3]`.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["JAXTYPING_DISABLE"] = "1"  # sae-bench's annotations fail under the newest jaxtyping
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from common import machine, table
from core_oracle import core_of_sae_bench
from torch import Tensor

from abench import Context, LanguageModel, TokenRows
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.tinyworld import MODEL_DIR
from abench.variants import SAEShape, get_variant

SITE, LAYER, CONTEXT = "blocks.2.hook_resid_post", 2, 128
BATCH = 16
DATA = DataSpec(source="tinyworld", dataset=None)


def theirs(lm: LanguageModel, saes: Sequence[Any], rows: Tensor) -> list[Any]:
    return [core_of_sae_bench(lm, sae, rows, layer=LAYER, batch=BATCH)[0] for sae in saes]


def ours(lm: LanguageModel, saes: Sequence[Any], rows: Tensor) -> list[dict[str, float]]:
    task = get_task("core", {}, find_tasks())
    evaluation = EvaluationSpec(tokens=rows.numel(), batch_size=BATCH)
    ctx = Context(SITE, evaluation, DATA, CONTEXT, saes=tuple(saes))
    with torch.no_grad():
        prepared = task.prepare(lm, ctx)
        return [dict(task.score(sae, prepared, lm, ctx)) for sae in saes]


def build_saes(number: int, width: int, d_in: int = 128) -> list[Any]:
    """Untrained SAEs; every second one is signed."""
    return [
        get_variant(("topk", "abstopk")[seed % 2], {})
        .build(SAEShape(d_in, width, 16), seed=seed)
        .eval()
        .requires_grad_(False)
        for seed in range(number)
    ]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--saes", type=int, default=8)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=160, help=f"rows of {CONTEXT} tokens")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    rows = TokenRows(lm, DATA, "held_out", CONTEXT).batch(options.rows)

    def fresh(number: int) -> list[Any]:
        return build_saes(number, options.width)

    seconds(lambda: (ours(lm, fresh(1), rows[:BATCH]), theirs(lm, fresh(1), rows[:BATCH])))  # first calls
    times: dict[str, list[float]] = {}
    for _ in range(options.repeat):
        for number in (1, options.saes):
            for name, way in (("abench", ours), ("sae-bench", theirs)):
                saes = fresh(number)
                taken = seconds(lambda way=way, saes=saes: way(lm, saes, rows))
                times.setdefault(f"{name}, {number} SAE{'s' * (number > 1)}", []).append(taken)
    many = times[f"abench, {options.saes} SAEs"]
    rows_of = []
    for name, each in times.items():
        beside = many if name.endswith("SAEs") else times["abench, 1 SAE"]
        ratio = statistics.median(a / b for a, b in zip(each, beside, strict=True))
        rows_of.append([name, f"{statistics.median(each):.1f} s", f"{ratio:.1f}"])
    print(table(["core", "time", "over abench"], rows_of))
    one = statistics.median(times["abench, 1 SAE"])
    further = (statistics.median(many) - one) / (options.saes - 1)
    print(f"\nA further SAE: {further / one:.0%} of the first one's time.")
    print(f"{rows.numel()} tokens, width {options.width}. {machine()}")


if __name__ == "__main__":
    main()
