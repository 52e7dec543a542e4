"""One measurement of scale.py, in a process of its own: `python scale_points.py KIND JSON` prints JSON.

Threads are limited to one, so that CPU seconds are the seconds of an idle machine.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "10000", "RAY_USAGE_STATS_ENABLED": "0"})

import torch

from abench import Context, Task
from abench.config import DataSpec, EvaluationSpec, load_run
from abench.executors.base import Placement
from abench.executors.registry import executor_for
from abench.lm.catalogue import find_model, local_commit, weights_folder
from abench.lm.models import LanguageModel
from abench.plugins import find_tasks, get_task
from abench.progress import Silent
from abench.results.store import Store
from abench.runs.group_training import train_missing
from abench.runs.plan import Plan, make_plan
from abench.runs.runner import run_plan
from abench.sites import site_name
from abench.variants import SAEShape, get_variant

Numbers = dict[str, float]


def plan_of(options: Mapping[str, Any]) -> Plan:
    config = load_run(None, dict(options))
    name, model = find_model(config.model)
    variants = {each: get_variant(each, {}) for each in config.variants}
    tasks = {each: get_task(each, {}, find_tasks()) for each in config.tasks or ()}
    return make_plan(config, name, model, variants, tasks, commit=local_commit(model))


def opened(name: str) -> LanguageModel:
    """The model, whose first pass is made here and not timed."""
    model = find_model(name)[1]
    lm = LanguageModel.load(
        weights_folder(model), name=name, eos_after_documents=bool(model.eos_after_documents)
    )
    lm.residual(torch.zeros(1, 8, dtype=torch.int64), site_name(0))
    return lm


@contextmanager
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        yield Store.open(Path(folder) / "results", create=True)


def run(plan: Mapping[str, Any]) -> Numbers:
    """CPU seconds of training a group of SAEs and of scoring it, and peak memory in MiB."""
    made = plan_of(plan)
    lm = opened(made.config.model)
    before = peak()
    with store() as results:
        started = time.process_time()
        train_missing(made.saes, lm, results, Silent(), device="cpu", checkpoint_seconds=30)
        trained = time.process_time()
        outcome = run_plan(made, results, lm=lm)
        scored = time.process_time()
    if outcome.failed:
        raise RuntimeError(f"{len(outcome.failed)} cells failed")
    return {
        "training": trained - started,
        "scoring": scored - trained,
        "peak": peak(),
        "model": before,
    }


def peak() -> int:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@torch.no_grad()
def task(
    name: str,
    model: str,
    layer: int,
    width: int,
    options: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    source: str,
    saes: int = 3,
) -> Numbers:
    """CPU seconds of a task for one SAE, and for each further one of `saes`."""
    made, lm = get_task(name, dict(options), find_tasks()), opened(model)
    data = DataSpec(source=source, dataset=None, held_out_documents=300)

    def seconds(number: int) -> float:
        chosen = tuple(random_sae(lm.d_model, width, seed) for seed in range(number))
        ctx = Context(site_name(layer), EvaluationSpec(**evaluation), data, 128, saes=chosen, memory={})
        return timed(lambda: score(made, lm, ctx))

    if model == "tiny":
        seconds(1)  # imports and first calls; with a larger model they are a small part
    one, all_of_them = seconds(1), seconds(saes)
    return {"first": one, "further": (all_of_them - one) / (saes - 1)}


def random_sae(d_in: int, width: int, seed: int) -> Any:
    sae = get_variant("topk", {}).build(SAEShape(d_in, width, 32), seed)
    return sae.eval().requires_grad_(False)


def score(made: Task, lm: LanguageModel, ctx: Context) -> None:
    """Score all SAEs of a context, as a run does; raises ValueError if the task cannot."""
    if reason := made.skip(lm, ctx):
        raise ValueError(reason)
    prepared = made.prepare(lm, ctx)
    for sae in ctx.saes:
        made.score(sae, prepared, lm, ctx)


def timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def executor(name: str, plan: Mapping[str, Any], workers: int) -> Numbers:
    """Seconds of wall clock in which an executor computes a plan, and the number of shares."""
    from abench.executors.shares import shares_of

    made = plan_of(plan)
    torch.set_num_threads(1)
    with cluster(workers if name == "ray" else 0) as address, store() as results:
        devices = ("cpu",) * workers if name == "devices" else ("cpu",)
        placement = Placement(devices=devices, address=address)
        started = time.perf_counter()
        outcome = executor_for(name, placement).run(made, results, Silent())
        seconds = time.perf_counter() - started
    if outcome.failed:
        raise RuntimeError(f"{len(outcome.failed)} cells failed")
    return {"seconds": seconds, "shares": len(shares_of(made, trained=(), workers=workers, most=len))}


@contextmanager
def cluster(nodes: int) -> Iterator[str | None]:
    """The address of a Ray cluster on this machine, of nodes with one CPU each; None without nodes."""
    if not nodes:
        yield None
        return
    from ray.cluster_utils import Cluster

    size = {"object_store_memory": 80_000_000, "memory": 8_000_000_000, "num_gpus": 0}
    head = {"num_cpus": 0, "include_dashboard": False, **size}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=1, **size)
        yield made.address
    finally:
        made.shutdown()


def main() -> None:
    kind, options = sys.argv[1], json.loads(sys.argv[2])
    kinds: dict[str, Callable[..., Numbers]] = {"run": run, "task": task, "executor": executor}
    print(json.dumps(kinds[kind](**options)))


if __name__ == "__main__":
    main()
