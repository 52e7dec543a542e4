"""The report of a plan, from the store alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import pandas as pd

from abench.plan import Plan
from abench.report import write_report
from abench.store import Record, Store


@dataclass(frozen=True)
class Written:
    """A report on disk, and its tables as text."""

    folder: Path
    text: str


def write_plan_report(plan: Plan, store: Store) -> Written:
    """Write the report of the cells of a plan; cells without a result appear as missing."""
    # One at a time: whole records of many cells, each with its spec, would fill the memory.
    records = (_with_headlines(store.get(cell) or _missing(cell), plan.config.metrics) for cell in plan.cells)
    curves = {sae.key: _curve(store.curve_file(sae)) for sae in plan.saes}
    title = (
        plan.config.name if not plan.config.description else f"{plan.config.name}: {plan.config.description}"
    )
    return _write(records, curves, store.report_folder(plan.config.name), title)


def _write(
    records: Iterable[Record], curves: Mapping[str, pd.DataFrame | None], folder: Path, title: str
) -> Written:
    shared: dict[str, Any] = {}
    plain = [_plain(record, shared) for record in records]
    present = {key: curve for key, curve in curves.items() if curve is not None}
    report = write_report(plain, present, folder, title=title)
    # As wide as the terminal; elsewhere a width that most places show.
    return Written(report.folder, report.text(get_terminal_size((110, 24)).columns))


def _plain(record: Record, shared: dict[str, Any]) -> dict[str, Any]:
    """What reports read of a record; of parts that many records have alike one copy is held, in `shared`."""
    content = {name: value for name, value in vars(record).items() if name not in ("spec", "traceback")}
    packages = record.provenance.get("packages")
    provenance = record.provenance | {"packages": shared.setdefault(repr(packages), packages)}
    metrics = shared.setdefault(repr(record.metrics), record.metrics)
    return content | {"metrics": metrics, "provenance": provenance if packages else record.provenance}


def _with_headlines(record: Record, names: Sequence[str] | None) -> Record:
    """The record with the metrics that the user wants to see as its headlines."""
    if names is None:
        return record
    return replace(
        record, metrics=[metric | {"headline": metric["name"] in names} for metric in record.metrics]
    )


def _curve(file: Path | None) -> pd.DataFrame | None:
    return None if file is None else pd.read_csv(file)


def _missing(cell: Any) -> Record:
    return Record(
        key=cell.key,
        status="missing",
        labels=cell.labels(),
        metrics=[asdict(metric) for metric in cell.task.metrics],
        sae_key=cell.sae.key,
        limited=cell.evaluation.limit is not None,
    )
