"""From records of cells to a tidy data frame, and from there to a summary over seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.errors import UserError
from abench.report.csvfile import from_text, with_text, write_frame
from abench.report.validity import invalid_metrics
from abench.sanitize.printable import one_line
from abench.settings import settings_of
from abench.statistics.summary import half_width

if TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, Any]
"""One cell from the results folder: status, labels, declared metrics, scores, reason, provenance."""

LABELS = ("model", "site", "variant", "k", "width", "seed", "task", "task_version", "view")
_EARLIER = (*LABELS, "metric", "value", "higher_is_better", "status", "key")
"""The columns in files of earlier versions of abench."""
_VALIDITY = ("valid", "invalid_because")
RUN = ("run", "tokens", "learning_rate", "options")
"""What is known of the run and of the SAE's training, as far as the records tell."""
COLUMNS = (*_EARLIER, *_VALIDITY, *RUN)
GROUP = ("model", "site", "variant", "k", "width", "task", "task_version", "view", "metric")
SAE_GROUP = ("model", "site", "variant", "k", "width")
"""SAEs with equal labels differ only in their seed."""

_TEXT = (
    "model",
    "site",
    "variant",
    "task",
    "task_version",
    "view",
    "metric",
    "status",
    "key",
    "invalid_because",
    "run",
    "options",
)
_NULLABLE = {
    "k": "Int64",
    "width": "Int64",
    "seed": "Int64",
    "value": "float64",
    "higher_is_better": "boolean",
    "valid": "boolean",
    "tokens": "Int64",
    "learning_rate": "float64",
}
SETTING = "setting."
"""Beginning of the names of further columns, one per setting in which SAEs of one variant differ, as text."""
_DTYPES = {**dict.fromkeys(_TEXT, "object"), **_NULLABLE}


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """One row per cell and declared metric, in an order independent of the order of the records.

    If SAEs of one variant differ in settings (`ridgetopk[ridge=0.1]`), there is one more column of text per
    setting, such as `setting.ridge`.

    The value is absent (NaN) unless the cell is done. `higher_is_better` is absent if neither direction is
    better. `valid` is False, and `invalid_because` states why, for a value that does not mean anything,
    because a precondition of its task is not met. Where there is no value, `valid` is absent and
    `invalid_because` is the reason why the cell was skipped or failed, if there is one. `run`,
    `tokens`, `learning_rate` and `options` (the variant's, as JSON) are empty for records that do not tell.
    Raises UserError if two cells have the same labels.
    """
    import pandas as pd

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for record in records:
        _add_rows(columns, record)
    # With an explicit dtype, pandas need not inspect every value to infer it. Each list is released before
    # the next column is made, because those of many cells are larger than all records.
    typed = {name: pd.Series(columns.pop(name), dtype=_DTYPES[name]) for name in COLUMNS}
    frame = pd.DataFrame(typed, columns=list(COLUMNS), copy=False)
    del typed
    _check_unique(frame)
    frame = _with_settings(frame)
    return frame.sort_values([*LABELS, "metric"], kind="stable", ignore_index=True)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every metric of a tidy frame.

    Columns: model, site, variant, k, width, task, task_version, view, metric, higher_is_better, mean, sd, n,
    N, low, high; N is the number of planned seeds and n the number of those with a valid value. The mean is
    absent if n < N, because means over different sets of seeds are not comparable. sd is the sample standard
    deviation (ddof = 1), and low and high are the ends of the mean's 95 % interval (Student's t), all absent
    if n < 2.
    """
    values = frame["value"].where(frame["valid"].fillna(value=False).astype(bool))
    frame = frame[[*GROUP, "seed", "higher_is_better"]].assign(value=values)
    groups = frame.sort_values([*GROUP, "seed"], kind="stable").groupby(list(GROUP), dropna=False)
    summary = groups.agg(
        higher_is_better=("higher_is_better", "first"),
        mean=("value", "mean"),
        sd=("value", "std"),
        n=("value", "count"),
        N=("value", "size"),
    ).reset_index()
    summary.loc[summary["n"] < summary["N"], ["mean", "sd"]] = math.nan
    half = summary["sd"] * [half_width(1.0, n) if n > 1 else math.nan for n in summary["n"].tolist()]
    return summary.assign(low=summary["mean"] - half, high=summary["mean"] + half)


def write_tidy(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy frame as CSV; equal frames give equal bytes, and floats are written in full.

    Text that spreadsheets would treat as a formula gets an apostrophe, which `read_tidy` removes.
    """
    write_frame(frame, path)


def read_tidy(path: Path) -> pd.DataFrame:
    """The frame that `write_tidy` wrote, with exactly the same floats.

    All values in a file of an earlier version of abench that lacks `valid` count as valid, and what it does
    not know of the run is empty. Raises
    UserError if the file's columns are not those of a tidy frame.
    """
    import pandas as pd

    options: dict[str, Any] = {"keep_default_na": False, "na_values": {c: [""] for c in _NULLABLE}}
    dtypes: Any = defaultdict(lambda: "object", _DTYPES)
    frame = pd.read_csv(path, dtype=dtypes, float_precision="round_trip", **options)
    if tuple(frame.columns) == _EARLIER:
        valid = frame["value"].notna().astype("boolean")
        frame = frame.assign(valid=valid.mask(~valid), invalid_because="")
    settings = [name for name in frame.columns if name.startswith(SETTING)]
    if tuple(name for name in frame.columns if name not in settings) == (*_EARLIER, *_VALIDITY):
        frame = frame.assign(**_nothing_of_run(frame))[[*COLUMNS, *settings]]
    if tuple(name for name in frame.columns if name not in settings) != COLUMNS:
        raise UserError(f"{path} is not a report's data.csv: its columns must be {', '.join(COLUMNS)}")
    return with_text(frame, from_text)


def _add_rows(columns: Mapping[str, list[Any]], record: Record) -> None:
    """Add one row per metric of a cell, column by column, which is much faster than one mapping per row."""
    labels, metrics, scores = record["labels"], record["metrics"], record["scores"]
    done, number = record["status"] == "done", len(metrics)
    for label in LABELS:
        columns[label].extend(repeat(labels[label], number))
    columns["metric"].extend(metric["name"] for metric in metrics)
    columns["value"].extend(float(scores[metric["name"]]) if done else math.nan for metric in metrics)
    columns["higher_is_better"].extend(metric["higher_is_better"] for metric in metrics)
    columns["status"].extend(repeat(record["status"], number))
    columns["key"].extend(repeat(record["key"], number))
    invalid = invalid_metrics(record)
    columns["valid"].extend(metric["name"] not in invalid if done else None for metric in metrics)
    reason = "" if done else one_line(record["reason"] or "")
    columns["invalid_because"].extend(invalid.get(metric["name"], reason) for metric in metrics)
    about = record.get("about") or {}
    for name in RUN:
        columns[name].extend(repeat(about.get(name, "" if name in _TEXT else None), number))


def _nothing_of_run(frame: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Empty columns about the run, for a file of an earlier version."""
    import pandas as pd

    return {name: pd.Series("" if name in _TEXT else None, frame.index, dtype=_DTYPES[name]) for name in RUN}


def _with_settings(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column of text per setting in labels of variants; empty for labels without it."""
    own = {label: settings_of(label) for label in frame["variant"].unique()}
    names = dict.fromkeys(name for settings in own.values() for name in settings)
    columns = {
        f"{SETTING}{name}": frame["variant"].map({label: each.get(name, "") for label, each in own.items()})
        for name in names
    }
    return frame.assign(**columns) if columns else frame


def _check_unique(frame: pd.DataFrame) -> None:
    """Raise UserError if two cells have the same labels: they would be averaged as if they were seeds."""
    repeated = frame[frame.duplicated([*LABELS, "metric"])]
    if len(repeated):
        first = repeated.iloc[0]
        cell = ", ".join(f"{label} {first[label]}" for label in LABELS)
        raise UserError(f"two cells have the same labels ({cell}): report one run's configuration at a time")
