"""A report with values is not replaced by one without, and storage that refuses costs a sentence."""

import errno
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from command import Abench

from abench.report import swap
from abench.report.manifest import MANIFEST
from abench.results.store import Record, Store
from abench.runs.plan import Plan
from abench.runs.planner import RunRequest, plan_run

OPTIONS = (
    "--variants",
    "topk",
    "--k",
    "4",
    "--seeds",
    "0,1",
    "--tasks",
    "bidirectionality",
    "--name",
    "paper",
)


def plan(*assignments: str) -> Plan:
    options: dict[str, Any] = {
        "variants": ("topk",),
        "k": (4,),
        "seeds": (0, 1),
        "tasks": ("bidirectionality",),
    }
    request = RunRequest(options=options | {"name": "paper"}, assignments=assignments)
    return plan_run(request, fetch=False, say=print)


def fill(results: Path, cells: Sequence[Any]) -> None:
    """Put made-up values of these cells of a plan into a results folder."""
    store = Store.open(results, create=True)
    for cell in cells:
        metrics = [asdict(metric) for metric in cell.task.metrics]
        scores = {metric["name"]: 0.5 for metric in metrics}
        record = Record(cell.key, "done", cell.labels(), metrics, scores, sae_key=cell.sae.key)
        store.put(cell, record)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    fill(tmp_path / "results", plan().cells)
    return tmp_path / "results"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_other_options_than_the_runs_are_named_and_leave_the_report(results: Path, abench: Abench) -> None:
    assert abench("report", *OPTIONS, "--results", results).code == 0
    before = contents(results / "reports" / "paper")
    other = ("--set", "training.tokens=4096", "--results", results)
    refused = abench("report", *OPTIONS, *other)
    assert refused.code == 2
    assert refused.err.startswith("abench: the report in ")
    assert "values of 2 cells that the new one would lack" in refused.err
    assert "sae.training.tokens is " in refused.err
    assert " and 4096 here" in refused.err
    assert "--name" in refused.err
    assert contents(results / "reports" / "paper") == before
    # Under another name, or once its cells are computed, it is written.
    assert abench("report", *OPTIONS[:-1], "other", *other).code == 0
    fill(results, plan("training.tokens=4096").cells)
    assert abench("report", *OPTIONS, *other).code == 0


def test_cells_that_lose_their_values_are_enough(results: Path, abench: Abench) -> None:
    assert abench("report", *OPTIONS, "--results", results).code == 0
    fill(results, plan("training.tokens=4096").cells[:1])
    refused = abench("report", *OPTIONS, "--set", "training.tokens=4096", "--results", results)
    assert refused.code == 2
    assert "values of 1 cell that" in refused.err


def test_other_cells_without_values_do_not_take_the_place_of_values(results: Path, abench: Abench) -> None:
    assert abench("report", *OPTIONS, "--results", results).code == 0
    refused = abench("report", *OPTIONS, "--variants", "relu", "--results", results)
    assert refused.code == 2
    assert 'it is about other cells (variant is ["topk"] there and ["relu"] here)' in refused.err


def test_a_run_that_goes_on_and_one_with_fewer_seeds_replace_their_report(
    tmp_path: Path, abench: Abench
) -> None:
    results, cells = tmp_path / "results", plan().cells
    fill(results, cells[:1])
    assert abench("report", *OPTIONS, "--results", results).code == 0
    fill(results, cells)
    assert abench("report", *OPTIONS, "--results", results).code == 0
    assert abench("report", *OPTIONS, "--seeds", "0", "--results", results).code == 0
    assert abench("report", *OPTIONS, "--seeds", "0,1,2", "--results", results).code == 0
    values = json.loads((results / "reports" / "paper" / MANIFEST).read_text())["values"]
    assert [row[5] for row in values] == [0, 1]


def test_a_report_of_an_earlier_version_is_known_by_its_data(results: Path, abench: Abench) -> None:
    assert abench("report", *OPTIONS, "--results", results).code == 0
    (results / "reports" / "paper" / MANIFEST).unlink()
    refused = abench("report", *OPTIONS, "--set", "training.tokens=4096", "--results", results)
    assert refused.code == 2
    assert "values of 2 cells that the new one would lack: it was made with other options" in refused.err


@pytest.mark.parametrize(("number", "code"), [(errno.EROFS, 0), (errno.ENOSPC, 2)])
def test_tables_are_printed_where_nothing_can_be_written(
    results: Path, abench: Abench, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    assert abench("report", *OPTIONS, "--results", results).code == 0
    before = contents(results / "reports" / "paper")

    def refuse(folder: Path, *_: Any) -> None:
        raise OSError(number, "refused by the storage", str(folder))

    monkeypatch.setattr(swap, "_swap", refuse)
    result = abench("report", *OPTIONS, "--results", results)
    assert result.code == code
    assert "TopK" in result.out
    (line,) = result.err.splitlines()
    assert "the report was not written: " in line
    assert "cannot be written (refused by the storage): fix this and run the same command again" in line
    assert contents(results / "reports" / "paper") == before
    assert [path.name for path in (results / "reports").iterdir()] == ["paper"]
