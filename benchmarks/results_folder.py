"""Time and memory of `abench status`, `abench report` and a cached `abench run` on a large results folder.

    python benchmarks/results_folder.py [CELLS [FOLDER]]

CELLS is 20,000 (2,000 SAEs) unless another multiple of 1,000 is given; a FOLDER is filled once and stays.

The folder is written by the store itself: SAEs with small files, and cells with scores of `core` and of tasks
made up here. A dry run and `abench status` are measured twice, without and with the index that they write
(`findings.json`). Two things are measured before each command, because machines vary in speed: the import of
torch, and reading every cell's file with `json.loads`. The ratios to these times are the result. Each command
runs in a separate process, whose peak memory is reported.

Files that are younger than the process that reads them are not indexed, so commands start some seconds after
a folder has been filled.
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
from abench.storage.findings import FILE as INDEX
from abench.storage.sealed import manifest_of

CELLS = 20_000
TASKS = 9
CELLS_PER_SEED = 1_000
"""Five variants, 20 k and ten tasks."""
ROWS = 200
"""Points of a training curve."""
TURNS = 3
SECONDS_TO_SETTLE = 5.0

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


READ_ALL = """
import json, pathlib, sys
for file in pathlib.Path(sys.argv[1]).rglob("*.json"):
    json.loads(file.read_bytes())
"""


def grid(folder: Path, cells: int) -> dict[str, object]:
    """The options of a run with this many cells: a tenth as many SAEs, ten tasks."""
    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    for number in range(TASKS):
        (tasks / f"made{number}.py").write_text(TASK_FILE.format(number=number), encoding="utf-8")
    return {
        "variants": ("abstopk", "topk", "jumprelu", "batchtopk", "relu"),
        "k": tuple(range(4, 24)),
        "seeds": tuple(range(cells // CELLS_PER_SEED)),
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


def row(name: str, costs: Sequence[tuple[Cost, Cost, Cost]]) -> list[str]:
    """A command's medians; `costs` has those of importing torch, of reading all cells, and of the command."""
    over_torch = [command.wall / torch.wall for torch, _, command in costs]
    over_reading = [command.wall / reading.wall for _, reading, command in costs]
    return [
        name,
        f"{median(command.wall for _, _, command in costs):.1f} s",
        f"{median(torch.wall for torch, _, _ in costs):.1f} s",
        f"{median(over_torch):.1f} ({min(over_torch):.1f} to {max(over_torch):.1f})",
        f"{median(reading.wall for _, reading, _ in costs):.1f} s",
        f"{median(over_reading):.2f} ({min(over_reading):.2f} to {max(over_reading):.2f})",
        f"{median(command.cpu for _, _, command in costs):.1f} s",
        f"{max(command.memory for _, _, command in costs)} MiB",
    ]


def main(cells: int, folder: Path) -> None:
    options = grid(folder, cells)
    whole = plan(options, folder)
    if not (folder / "results").exists():
        fill(whole, folder)
        time.sleep(SECONDS_TO_SETTLE)
    given = words(options, folder)
    read_all = ["-c", READ_ALL, str(folder / "results" / "cells")]
    commands = {
        "run --dry-run, no index": ["run", "--dry-run"],
        "run --dry-run": ["run", "--dry-run"],
        "status, no index": ["status"],
        "status": ["status"],
        "report, the first of its name": ["report"],
        "report, the second of its name": ["report"],
        "run, all cells cached, report included": ["run"],
    }
    costs: dict[str, list[tuple[Cost, Cost, Cost]]] = {name: [] for name in commands}
    for turn in range(TURNS):
        for name, command in commands.items():
            if name.endswith("no index"):
                (folder / "results" / INDEX).unlink(missing_ok=True)
            beside = measured(["-c", "import torch"]), measured(read_all)
            arguments = ["-m", "abench", *command, *given, "--name", f"report-{os.getpid()}-{turn}"]
            costs[name].append((*beside, measured(arguments)))
    header = [
        "abench",
        "wall clock",
        "import torch",
        "ratio",
        "all json.loads",
        "ratio",
        "CPU",
        "peak memory",
    ]
    print(table(header, [row(name, each) for name, each in costs.items()]))
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"\nLoad averages of the machine: {load}.")
    print(f"{len(whole.cells):,} cells of {len(whole.saes):,} SAEs. {machine()}")


if __name__ == "__main__":
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else CELLS
    if len(sys.argv) > 2:
        main(cells, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(cells, Path(name))
