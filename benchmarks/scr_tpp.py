"""Time of SCR and TPP against sae-bench's own functions, on the same activations, probes and SAEs.

sae-bench receives the activations and its trained probes, so only its work per SAE is timed: the effects and
the ablations. abench's time per SAE is its share of `prepare`, plus `score`.
`python benchmarks/scr_tpp.py [WIDTH [TRAIN [TEST]]]`.
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from common import machine, table
from torch import Tensor

from abench import Context, LanguageModel, Task, right_padded, token_rows
from abench._torchvision import hide_if_broken
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.tinyworld import MODEL_DIR
from abench.variants import SAEShape, get_variant

hide_if_broken()

SITE = "blocks.2.hook_resid_post"
DATA_SET = "tinyworld/biographies"
NUMBERS = [2, 5, 10, 20, 50, 100, 500]
REPETITIONS = 3


def random_saes(width: int, number: int, d_in: int) -> list[Any]:
    variants = ["topk", "abstopk"]
    return [
        get_variant(variants[seed % 2], {})
        .build(SAEShape(d_in, width, 32), seed=seed)
        .eval()
        .requires_grad_(False)
        for seed in range(number)
    ]


def context_of(saes: Sequence[Any]) -> Context:
    return Context(SITE, EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), 128, saes=tuple(saes))


def ours(task: Task, lm: LanguageModel, saes: Sequence[Any]) -> float:
    """CPU seconds of preparing and scoring the given SAEs."""
    started = time.process_time()
    prepared = task.prepare(lm, context_of(saes))
    for sae in saes:
        task.score(sae, prepared, lm, context_of(saes))
    return time.process_time() - started


def activations(lm: LanguageModel, groups: Mapping[Any, Sequence[str]]) -> dict[Any, Tensor]:
    """Residual stream [texts, longest text, d_model] of each group, 0 where there is no ordinary token."""
    rows = {name: token_rows(lm, texts, 128) for name, texts in groups.items()}
    longest = max(len(row) for each in rows.values() for row in each)
    found = {}
    for name, each in rows.items():
        found[name] = torch.zeros(len(each), longest, lm.d_model)
        for numbers, tokens, mask in right_padded(each, lm):
            residual = lm.residual(tokens, SITE) * mask[..., None]
            found[name][torch.tensor(numbers), : tokens.shape[1]] = residual
    return found


def sae_benchs(acts: tuple[dict[str, Tensor], dict[str, Tensor]], *, scr: bool) -> Callable[[Any], float]:
    """A function that returns the CPU seconds of sae-bench's work for an SAE."""
    from sae_bench.evals.scr_and_tpp import main
    from sae_bench.evals.sparse_probing.probe_training import Probe
    from sae_bench.sae_bench_utils.dataset_info import PAIRED_CLASS_KEYS

    train, test = acts
    classes = list(PAIRED_CLASS_KEYS) if scr else list(train)
    # The cost does not depend on what a probe has learned.
    probes = {name: Probe(next(iter(train.values())).shape[-1], torch.float32) for name in classes}

    def seconds(sae: Any) -> float:
        started = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            effects = main.get_all_node_effects_for_one_sae(sae, probes, classes, scr, train, 125)
            main.perform_feature_ablations(probes, sae, 125, test, effects, NUMBERS, classes, 500, scr)
        return time.process_time() - started

    return seconds


def tpp_activations(lm: LanguageModel, train: int, test: int) -> Any:
    from abench.tasks._shared.labelled import labelled

    data = labelled(DATA_SET, context_of(()), train=train, test=test)
    return tuple(activations(lm, half) for half in (data.train, data.test))


def scr_activations(lm: LanguageModel, train: int, test: int) -> Any:
    """The six groups of one pair of classes."""
    from abench.tasks._shared.labelled import TINY_PAIRS, quadrants

    data = quadrants(DATA_SET, TINY_PAIRS[DATA_SET][0], context_of(()), train=train, test=test)
    halves = []
    for corners in (data.train, data.test):
        x = activations(lm, corners)
        halves.append(
            {
                "male / female": torch.cat([x[0, 0], x[1, 0]]),
                "female_data_only": torch.cat([x[0, 1], x[1, 1]]),
                "professor / nurse": torch.cat([x[0, 0], x[0, 1]]),
                "nurse_data_only": torch.cat([x[1, 0], x[1, 1]]),
                "male_professor / female_nurse": x[0, 0],
                "female_nurse_data_only": x[1, 1],
            }
        )
    return tuple(halves)


def measured(name: str, lm: LanguageModel, width: int, train: int, test: int) -> list[str]:
    """A row of the table: one task on one data set."""
    options = {"datasets": [DATA_SET], "train": train, "test": test}
    task, saes = get_task(name, options, find_tasks()), random_saes(width, 2, lm.d_model)
    scr = name == "scr"
    acts = (scr_activations if scr else tpp_activations)(lm, train, test)
    theirs = sae_benchs(acts, scr=scr)
    # sae-bench is timed on one pair of classes, abench on the whole data set.
    parts = len(task.prepare(lm, context_of(()))) if scr else 1
    turns = [
        [ours(task, lm, saes[:n]) for n in (0, 1, 2)] + [theirs(saes[0]) * parts] for _ in range(REPETITIONS)
    ]
    none, one, two, bench = torch.tensor(turns).median(0).values.tolist()
    ratio, added = bench / (one - none), (two - one) / one
    return [
        name,
        f"{none:.1f} s",
        f"{one - none:.2f} s",
        f"{bench:.1f} s",
        f"{ratio:.0f}",
        f"{(none + bench) / one:.1f}",
        f"{added:.0%}",
    ]


@torch.no_grad()
def main() -> None:
    width, train, test = [*map(int, sys.argv[1:]), *(8192, 400, 100)[len(sys.argv) - 1 :]]
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    header = [
        "task",
        "model and probes",
        "abench, an SAE",
        "sae-bench, an SAE",
        "ratio",
        "ratio with model and probes",
        "second SAE, share of the first",
    ]
    rows = [measured(name, lm, width, train, test) for name in ("tpp", "scr")]
    print(table(header, rows))
    print(f"\nWidth {width}, {train} texts to train and {test} to test a probe, CPU time. {machine()}")


main()
