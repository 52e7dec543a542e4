"""Records of cells -> tidy frame -> summary over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.errors import UserError
from abench.report.csvfile import from_text, with_text, write_frame

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, Any]
"""One cell as the store hands it over: status, labels, declared metrics, scores, reason, provenance."""

LABELS = ("model", "site", "variant", "k", "width", "seed", "task", "task_version", "view")
COLUMNS = (*LABELS, "metric", "value", "higher_is_better", "status", "key")
GROUP = ("model", "site", "variant", "k", "width", "task", "task_version", "view", "metric")
SAE_GROUP = ("model", "site", "variant", "k", "width")
"""SAEs that share these labels differ in their seed only."""

_TEXT = ("model", "site", "variant", "task", "task_version", "view", "metric", "status", "key")
_NULLABLE = {
    "k": "Int64",
    "width": "Int64",
    "seed": "Int64",
    "value": "float64",
    "higher_is_better": "boolean",
}
_DTYPES = {**dict.fromkeys(_TEXT, "object"), **_NULLABLE}


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """One row per cell and declared metric, in an order that does not depend on that of the records.

    The value is absent (NaN) unless the cell is done. `higher_is_better` is absent where neither direction
    is better. Raises UserError if two cells carry the same labels.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for record in records:
        _add_rows(columns, record)
    # Without its type, pandas would look at every value of a column to find it.
    typed = {name: pd.Series(values, dtype=_DTYPES[name]) for name, values in columns.items()}
    frame = pd.DataFrame(typed, columns=list(COLUMNS))
    _check_unique(frame)
    return frame.sort_values([*LABELS, "metric"], kind="stable", ignore_index=True)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every metric of a tidy frame.

    Columns: model, site, variant, k, width, task, task_version, view, metric, higher_is_better, mean, sd, n,
    N; N counts the planned seeds and n those with a value. The mean is absent where n < N, since means over
    unequal sets of seeds cannot be compared. sd is the sample standard deviation (ddof = 1), absent where
    n < 2.
    """
    groups = frame.sort_values([*GROUP, "seed"], kind="stable").groupby(list(GROUP), dropna=False)
    summary = groups.agg(
        higher_is_better=("higher_is_better", "first"),
        mean=("value", "mean"),
        sd=("value", "std"),
        n=("value", "count"),
        N=("value", "size"),
    ).reset_index()
    summary.loc[summary["n"] < summary["N"], ["mean", "sd"]] = math.nan
    return summary


def write_tidy(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy frame as CSV; equal frames give equal bytes, and floats are written in full.

    Text that spreadsheets would take for a formula gets an apostrophe, which `read_tidy` takes away.
    """
    write_frame(frame, path)


def read_tidy(path: Path) -> pd.DataFrame:
    """The frame that `write_tidy` wrote, every float as it was.

    Raises UserError if the file's columns are not those of a tidy frame.
    """
    import pandas as pd

    options: dict[str, Any] = {"keep_default_na": False, "na_values": {c: [""] for c in _NULLABLE}}
    frame = pd.read_csv(path, dtype=_DTYPES, float_precision="round_trip", **options)
    if tuple(frame.columns) != COLUMNS:
        raise UserError(f"{path} is not a report's data.csv: its columns should be {', '.join(COLUMNS)}")
    return with_text(frame, from_text)


def _add_rows(columns: Mapping[str, list[Any]], record: Record) -> None:
    """Add a row for each metric of a cell, column by column: much faster than a mapping for each row."""
    labels, metrics, scores = record["labels"], record["metrics"], record["scores"]
    done, number = record["status"] == "done", len(metrics)
    for label in LABELS:
        columns[label].extend(repeat(labels[label], number))
    columns["metric"].extend(metric["name"] for metric in metrics)
    columns["value"].extend(float(scores[metric["name"]]) if done else math.nan for metric in metrics)
    columns["higher_is_better"].extend(metric["higher_is_better"] for metric in metrics)
    columns["status"].extend(repeat(record["status"], number))
    columns["key"].extend(repeat(record["key"], number))


def _check_unique(frame: pd.DataFrame) -> None:
    """Two cells under one name would be averaged as if they were seeds."""
    repeated = frame[frame.duplicated([*LABELS, "metric"])]
    if len(repeated):
        first = repeated.iloc[0]
        cell = ", ".join(f"{label} {first[label]}" for label in LABELS)
        raise UserError(f"two cells have the same labels ({cell}): report one run's configuration at a time")
