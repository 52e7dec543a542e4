"""What the reference results say of how far the metrics of a task can be trusted."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from generators.borrowed import ROOT
from generators.markdown import table
from generators.tasks import built_in

FILE = ROOT / "results" / "reference" / "reliability.csv"
"""Written by the study of reliability, one row per metric; it need not be there."""
MEASURED = {
    "reseed": "reseed noise",
    "training": "training noise",
    "discrimination": "discrimination",
    "resolves": "resolves",
}
"""The columns that are shown, and their headings."""


def figures(task: str, file: Path = FILE) -> str:
    """The figures of a task's present version as a table, or a sentence if none are stored."""
    version = built_in()[task].version
    rows = [row for row in _rows(file) if (row["task"], row["task_version"]) == (task, version)]
    if not rows:
        return f"No figures of version {version} are among the reference results yet."
    said = sorted({f"{row['variant']}, k = {row['k']}, on {row['model']}, {row['site']}" for row in rows})
    intro = f"Measured for {'; '.join(said)}. A figure that is — could not be computed."
    shown = [(f"`{row['metric']}`", row["view"], *(_number(row[name]) for name in MEASURED)) for row in rows]
    return f"{intro}\n\n{table(('metric', 'view', *MEASURED.values()), shown)}"


def _rows(file: Path) -> Iterator[Mapping[str, str]]:
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)


def _number(text: str) -> str:
    return f"{float(text):.3g}" if text else "—"
