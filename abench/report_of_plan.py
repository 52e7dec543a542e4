"""The report of a plan, from the store alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import pandas as pd

from abench.plan import Plan
from abench.report import write_report
from abench.report.build import build_tables
from abench.report.render import plain
from abench.storage import StorageError, storage_error
from abench.store import Record, Store


@dataclass(frozen=True)
class Written:
    """A report on disk, and its tables as text."""

    folder: Path
    text: str
    refused: StorageError | None = None
    """Why the report could not be written; the tables are there all the same."""


def write_plan_report(plan: Plan, store: Store) -> Written:
    """Write the report of the cells of a plan; cells without a result appear as missing."""
    records = [_with_headlines(store.get(cell) or _missing(cell), plan.config.metrics) for cell in plan.cells]
    curves = {sae.key: _curve(store.curve_file(sae)) for sae in plan.saes}
    title = (
        plan.config.name if not plan.config.description else f"{plan.config.name}: {plan.config.description}"
    )
    return _write(records, curves, store.report_folder(plan.config.name), title)


def _write(
    records: Iterable[Record], curves: Mapping[str, pd.DataFrame | None], folder: Path, title: str
) -> Written:
    cells: list[dict[str, Any]] = [asdict(record) for record in records]
    present = {key: curve for key, curve in curves.items() if curve is not None}
    # As wide as the terminal; elsewhere a width that most places show.
    width = get_terminal_size((110, 24)).columns
    try:
        report = write_report(cells, present, folder, title=title)
    except OSError as error:
        # What the folder holds can be shown although nothing can be written to it.
        tables = build_tables(cells, title=title)
        return Written(folder, plain(tables, width), storage_error(error, folder))
    return Written(report.folder, report.text(width))


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
