"""Time and memory of `abench status`, `abench report` and a cached `abench run` on a large results folder.

The folder is written by the store itself: SAEs with small files, and cells with scores of `core` and of tasks
made up here. The import of torch is measured before each command, because the speed of a machine varies; the
ratio of the two times is the result. Each command runs in a separate process, whose peak memory is reported.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

from common import machine, table

from abench.lm.catalogue import recorded
from abench.results.jobs import Cell, SAEJob
from abench.results.store import CURVE_FILE, Record, SAERecord, Store
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run
from abench.runs.provenance import provenance
from abench.storage.sealed import manifest_of

CELLS = 20_000
TASKS = 9
SEEDS = 20
"""Seeds per variant, k and width."""
ROWS = 200
"""Points of a training curve."""
TURNS = 3

TASK_FILE = '''
from typing import Any, ClassVar
from abench import Metric, Task


class Made{number}(Task):
    """A task whose scores are made up."""

    name: ClassVar[str] = "made{number}"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        Metric(f"score{{i}}", True, headline=i == 0, description="made up") for i in range(8)
    )

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Any) -> dict[str, float]:
        raise RuntimeError("everything is in the results folder")
'''


def grid(folder: Path) -> dict[str, object]:
    """The options of a run of 20,000 cells: 2,000 SAEs, ten tasks."""
    tasks = folder / "tasks"
    tasks.mkdir()
    for number in range(TASKS):
        (tasks / f"made{number}.py").write_text(TASK_FILE.format(number=number), encoding="utf-8")
    return {
        "variants": ("abstopk", "topk", "jumprelu", "batchtopk", "relu"),
        "k": tuple(range(4, 24)),
        "seeds": tuple(range(SEEDS)),
        "width": (256,),
        "tasks": ("core", *(f"made{number}" for number in range(TASKS))),
    }


def words(options: dict[str, object], folder: Path) -> list[str]:
    """The same options as a command line."""
    values = {name: ",".join(map(str, value)) for name, value in options.items()}  # type: ignore[call-overload]
    given = [word for name, value in values.items() for word in (f"--{name}", value)]
    return [*given, "--tasks-dir", str(folder / "tasks"), "--results", str(folder / "results")]


def plan(options: dict[str, object], folder: Path) -> Plan:
    return plan_run(RunRequest(options=options, plugins=(folder / "tasks",)), fetch=False, say=print)


def fill(whole: Plan, folder: Path) -> None:
    rng = random.Random(0)
    store = Store.open(folder / "results", create=True)
    where = provenance("cpu", 1.0)
    os.fsync = lambda _: None  # the folder need not outlive the machine
    for job in whole.saes:
        _put_sae(store, job, where, rng)
    for cell in whole.cells:
        store.put(cell, _record(cell, where, rng))


def _put_sae(store: Store, job: SAEJob, where: dict[str, object], rng: random.Random) -> None:
    draft = store.draft_folder(job)
    for name in ("cfg.json", "sae_weights.safetensors"):
        (draft / name).write_bytes(rng.randbytes(1000))
    curve = (f"{step},{step * 512},{rng.random()},4.0,0,{step * 0.1:.3f}" for step in range(ROWS))
    (draft / CURVE_FILE).write_text("\n".join(["step,tokens,mse,l0,dead,seconds", *curve]) + "\n")
    model = {"model": recorded(job.model.config)}
    record = SAERecord(
        job.key, "done", job.labels(), job.spec(), files=manifest_of(draft), provenance=where | model
    )
    store.put_sae(job, record, draft)


def _record(cell: Cell, where: dict[str, object], rng: random.Random) -> Record:
    metrics = [asdict(metric) for metric in cell.task.metrics]
    return Record(
        key=cell.key,
        status="done",
        labels=cell.labels(),
        metrics=metrics,
        scores={metric["name"]: rng.random() for metric in metrics},
        sae_key=cell.sae.key,
        spec=cell.spec(),
        provenance=where,
    )


class Cost(NamedTuple):
    """Wall clock and CPU seconds of a Python process, and its peak memory in MiB."""

    wall: float
    cpu: float
    memory: int


def measured(arguments: list[str]) -> Cost:
    """The cost of one Python process; raises CalledProcessError if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-P", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if code := os.waitstatus_to_exitcode(status):
        raise subprocess.CalledProcessError(code, arguments)
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss >> 10)


def row(name: str, costs: Sequence[tuple[Cost, Cost]]) -> list[str]:
    """A command's medians; `costs` has the costs of importing torch and of the command for each turn."""
    ratios = [command.wall / torch.wall for torch, command in costs]
    cpu_ratios = [command.cpu / torch.cpu for torch, command in costs]
    return [
        name,
        f"{median(command.wall for _, command in costs):.1f} s",
        f"{median(torch.wall for torch, _ in costs):.1f} s",
        f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})",
        f"{median(cpu_ratios):.1f}",
        f"{max(command.memory for _, command in costs)} MiB",
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = grid(folder)
        whole = plan(options, folder)
        fill(whole, folder)
        given = words(options, folder)
        commands = {
            "status": "status",
            "report, the first of its name": "report",
            "report, of the same cells again": "report",
            "run, all cells cached, report included": "run",
        }
        costs: dict[str, list[tuple[Cost, Cost]]] = {name: [] for name in commands}
        for turn in range(TURNS):
            for name, command in commands.items():
                torch = measured(["-c", "import torch"])
                arguments = ["-m", "abench", command, *given, "--name", f"report-{turn}"]
                costs[name].append((torch, measured(arguments)))
        header = ["abench", "wall clock", "import torch", "ratio", "CPU ratio", "peak memory"]
        print(table(header, [row(name, each) for name, each in costs.items()]))
        load = " ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"\nLoad averages of the machine: {load}.")
        print(f"{len(whole.cells):,} cells of {len(whole.saes):,} SAEs. {machine()}")


if __name__ == "__main__":
    main()
