"""Time of sparse probing against sae-bench's own run on the same model, texts and SAEs.

    python benchmarks/sparse_probing.py [--width 8192] [--texts 4000] [--saes 3] [--repetitions 3]

Both run the tiny world's texts through the bundled model. sae-bench's functions are called as in its
`run_eval_single_sae`, with the model's activations cached from the first SAE on (sae-bench caches them on
disk; here they are in memory, which favours it). Ratios are within one repetition.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does; read when torch is loaded
os.environ["JAXTYPING_DISABLE"] = "1"  # sae-bench's annotations contradict each other
os.environ["TQDM_DISABLE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from abench.tasks._shared.labelled import labelled, probing_data_sets
from common import machine, table
from probe_oracle import activations
from sae_bench.evals.sparse_probing import probe_training
from sae_bench.sae_bench_utils import activation_collection
from signed import random_sae

from abench import Context, LanguageModel
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.tinyworld import MODEL_DIR

SITE, K = "blocks.2.hook_resid_post", (1, 2, 5)
WHOLE = {"select_top_k": None, "use_sklearn": False, "batch_size": 250, "epochs": 100, "lr": 1e-2}
DATA = DataSpec(source="tinyworld", dataset=None)
Halves = list[dict[str, Any]]


def ours(lm: LanguageModel, saes: list[Any], texts: int, context: int) -> Callable[[], object]:
    """The task on the given SAEs, in the native view."""
    ctx = Context(SITE, EvaluationSpec(), DATA, context, saes=tuple(saes))
    options = {"train_texts": texts, "test_texts": texts // 4, "context": context}
    task = get_task("sparse_probing", options, find_tasks())

    def run() -> object:
        prepared = task.prepare(lm, ctx)
        return [task.score(sae, prepared, lm, ctx) for sae in saes]

    return run


def theirs(
    lm: LanguageModel, saes: list[Any], texts: int, context: int, *, whole: bool
) -> Callable[[], object]:
    """sae-bench's run; `whole` includes its probe on all latents, which abench does not train.

    sae-bench pads every text to the context and encodes the padding too.
    """
    ctx = Context(SITE, EvaluationSpec(), DATA, context)

    def probes(means: Halves, whole: bool) -> None:
        if whole:
            probe_training.train_probe_on_activations(*means, **WHOLE)
        for k in K:
            probe_training.train_probe_on_activations(*means, select_top_k=k)

    def run() -> object:
        for name in probing_data_sets(ctx):
            data = labelled(name, ctx, train=texts, test=texts // 4)
            acts = [
                {c: activations(lm, each, SITE, context=context) for c, each in half.items()}
                for half in (data.train, data.test)
            ]
            probes([activation_collection.create_meaned_model_activations(half) for half in acts], whole=True)
            for sae in saes:
                probes(
                    [activation_collection.get_sae_meaned_activations(half, sae, 125) for half in acts], whole
                )
        return None

    return run


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    with redirect_stdout(StringIO()):
        run()
    return time.perf_counter() - started


def contenders(options: argparse.Namespace) -> Mapping[str, Callable[[], object]]:
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    variants = ("topk", "abstopk")
    saes = [
        random_sae(variants[seed % 2], width=options.width, k=options.k, seed=seed)
        for seed in range(options.saes)
    ]
    sizes = (options.texts, options.context)
    seconds(ours(lm, saes[:1], 16, options.context))  # imports and first calls
    return {
        "abench, one SAE": ours(lm, saes[:1], *sizes),
        f"abench, {len(saes)} SAEs": ours(lm, saes, *sizes),
        "sae-bench, one SAE": theirs(lm, saes[:1], *sizes, whole=True),
        "sae-bench, one SAE, top k only": theirs(lm, saes[:1], *sizes, whole=False),
        f"sae-bench, {len(saes)} SAEs": theirs(lm, saes, *sizes, whole=True),
    }


def report(times: Mapping[str, list[float]], saes: int) -> str:
    one, many = times["abench, one SAE"], times[f"abench, {saes} SAEs"]
    rows = []
    for name, each in times.items():
        beside = many if name.endswith(f" {saes} SAEs") else one
        ratios = [a / b for a, b in zip(each, beside, strict=True)]
        rows.append([name, f"{statistics.median(each):.1f} s", f"{statistics.median(ratios):.1f}"])
    further = [(b - a) / (saes - 1) / a for a, b in zip(one, many, strict=True)]
    share = f"A further SAE costs {statistics.median(further):.0%} of a run with one."
    return f"{table(['run', 'median', 'to abench with as many SAEs'], rows)}\n\n{share}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument(
        "--texts", type=int, default=4000, help="training texts of a probe; a quarter to test"
    )
    parser.add_argument("--context", type=int, default=128, help="the texts themselves have 20 to 40 tokens")
    parser.add_argument("--saes", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    if options.saes < 2:
        parser.error("--saes must be 2 or more")
    torch.set_grad_enabled(False)
    warnings.filterwarnings("ignore", "'penalty' was deprecated", FutureWarning)  # sae-bench's call
    runs = contenders(options)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repetitions):
        for name, run in runs.items():
            times[name].append(seconds(run))
            torch.set_grad_enabled(False)  # sae-bench turns it on
            print(f"{name}: {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
    sizes = (
        f"Width {options.width}, k = {options.k}, {options.texts} texts a probe, context {options.context}"
    )
    print(f"{report(times, options.saes)}\n\n{sizes}; {torch.get_num_threads()} threads. {machine()}")


if __name__ == "__main__":
    main()
