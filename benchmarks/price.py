"""The price of a run against the run itself: `abench run --dry-run` beside what was then measured.

    python benchmarks/price.py [--model tiny] [--device cpu] [--tokens 200000] [--tasks core,sparse_probing]

Prices a run of three variants, computes it into a temporary folder, and compares each part. On a CPU both are
CPU seconds with one thread, which other processes on the machine hardly change; on a GPU both are seconds.
Needs nothing but abench and the model's weights (a name, a folder or a hub id that is in the cache).
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # so that CPU seconds are the seconds of an idle machine
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

from abench.cli.price import price_text
from abench.pricing.calibration import Bench, device_name, wait
from abench.pricing.measured import SECONDS, rates_of
from abench.pricing.price import price_of
from abench.results.store import Store
from abench.runs import group_training, runner
from abench.runs.planner import RunRequest, plan_run

Spent = dict[str, float]


def watched(spent: Spent, name: str, clock: Callable[[], float], device: str, function: Callable) -> Callable:  # type: ignore[type-arg]
    """The function, whose time is added to `spent` under a name."""

    def timed(*args: object, **options: object) -> object:
        wait(device)
        started = clock()
        try:
            return function(*args, **options)
        finally:
            wait(device)
            spent[name] = spent.get(name, 0.0) + clock() - started

    return timed


@contextmanager
def measuring(spent: Spent, clock: Callable[[], float], device: str):  # type: ignore[no-untyped-def]
    """While active, the time of reading, of training steps and of each task is added to `spent`."""
    train, score = group_training.SAETrainer.train_on, runner._Runner._score_task
    block, early = group_training.ActivationStream._block, runner._Runner._settle_early
    measure = group_training.ActivationStream.measure

    def score_task(self, task, cells):  # type: ignore[no-untyped-def]
        return watched(spent, task.name, clock, device, score)(self, task, cells)

    group_training.SAETrainer.train_on = watched(spent, "training", clock, device, train)  # type: ignore[method-assign]
    group_training.ActivationStream._block = watched(spent, "reading text", clock, device, block)  # type: ignore[method-assign]
    group_training.ActivationStream.measure = watched(spent, "reading text", clock, device, measure)  # type: ignore[method-assign]
    runner._Runner._score_task = score_task  # type: ignore[method-assign]
    runner._Runner._settle_early = watched(spent, "checks of data before", clock, device, early)  # type: ignore[method-assign]
    try:
        yield
    finally:
        group_training.SAETrainer.train_on = train  # type: ignore[method-assign]
        group_training.ActivationStream._block = block  # type: ignore[method-assign]
        group_training.ActivationStream.measure = measure  # type: ignore[method-assign]
        runner._Runner._score_task, runner._Runner._settle_early = score, early  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", default="abstopk,topk,jumprelu")
    parser.add_argument("--tasks", default="core")
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--evaluation-tokens", type=int, default=40_960)
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    request = RunRequest(
        options={
            "model": options.model,
            "variants": tuple(options.variants.split(",")),
            "tasks": tuple(options.tasks.split(",")),
            "training.tokens": options.tokens,
        },
        assignments=(f"evaluation.tokens={options.evaluation_tokens}", *options.assignments),
    )
    plan = plan_run(request, fetch=True, say=partial(print, file=sys.stderr))
    bench = Bench.on(options.device, SECONDS, clock)
    started = time.perf_counter()
    price = price_of(
        plan, None, device=options.device, rates=lambda plan, todo, model: rates_of(plan, todo, model, bench)
    )
    calibrated = time.perf_counter() - started
    spent: Spent = {}
    with tempfile.TemporaryDirectory() as folder:
        print(price_text(plan, price, Path(folder), options.device), flush=True)
        store = Store.open(Path(folder) / "results", create=True)
        began = clock()
        with measuring(spent, clock, options.device):
            runner.run_plan(plan, store, device=options.device)
        whole = clock() - began
    print(f"\nCalibration took {calibrated:.1f} s.\n")
    print("| part | priced, s | measured, s | ratio |\n| --- | --- | --- | --- |")
    stated: Spent = {}
    for part in price.parts:
        stated[part.what] = stated.get(part.what, 0.0) + (part.seconds or 0.0)
    for name in (*stated, *(name for name in spent if name not in stated)):
        _row(name, stated.get(name), spent.get(name))
    _row("the whole run, with opening the model", sum(stated.values()), whole)
    unit = "CPU seconds, one thread" if on_cpu else "seconds"
    print(f"\n{unit}; {device_name(options.device)}; torch {torch.__version__}")


def _row(name: str, priced: float | None, measured: float | None) -> None:
    shown = ["—" if each is None else f"{each:.1f}" for each in (priced, measured)]
    ratio = f"{priced / measured:.2f}" if priced and measured else "—"
    print(f"| {name} | {shown[0]} | {shown[1]} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
