"""The cells of a report that was written before, from its files alone."""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Any

from abench.errors import UserError, did_you_mean
from abench.report.csvfile import from_text
from abench.report.frame import LABELS, read_tidy
from abench.report.saes import present

_MEAN = " mean"


def records_of_report(folder: Path, metrics: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The cells of a report's data.csv, with `metrics`, or those of its table.csv, as headline metrics.

    Scores that mean nothing are left out, and there are no items, which are only in the results folder.
    Raises UserError if the folder holds no report, or for a metric that the report lacks.
    """
    try:
        frame = read_tidy(folder / "data.csv")
        shown = _shown(folder / "table.csv") if metrics is None else None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no report: data.csv or table.csv cannot be read ({error})"
        ) from error
    known = frame["metric"].unique().tolist()
    for name in metrics or ():
        if name not in known:
            raise UserError(f"the report in {folder} has no metric {name!r}{did_you_mean(name, known)}")
    frame = frame[frame["valid"].fillna(value=False).astype(bool) & frame["value"].notna()]
    records: dict[str, dict[str, Any]] = {}
    for row in frame.to_dict("records"):
        labels = {name: present(row[name]) for name in LABELS}
        headline = (
            row["metric"] in metrics
            if metrics is not None
            else (labels["task"], row["metric"]) in (shown or ())
        )
        record = records.setdefault(str(row["key"]), _record(str(row["key"]), labels))
        better = present(row["higher_is_better"])
        record["metrics"].append(
            {"name": row["metric"], "title": "", "description": "", "paper": None, "headline": headline}
            | {"higher_is_better": None if better is None else bool(better)}
        )
        record["scores"][row["metric"]] = float(row["value"])
    return list(records.values())


def _record(key: str, labels: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": key,
        "status": "done",
        "labels": labels,
        "metrics": [],
        "scores": {},
        "reason": None,
        "limited": False,
        "sae_key": "",
        "provenance": {},
    }


def _shown(table: Path) -> set[tuple[str, str]]:
    """(Task, metric) of the columns of a report's table.csv, whose names are `task.metric mean`."""
    with table.open(encoding="utf-8", newline="") as stream:
        header = next(csv.reader(stream), [])
    names = (str(from_text(name)).removesuffix(_MEAN) for name in header if name.endswith(_MEAN))
    return {(task.split(" v")[0], metric) for task, _, metric in (name.partition(".") for name in names)}
