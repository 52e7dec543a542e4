"""CSV that spreadsheets open as it is: text never becomes a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from abench.secrets import hidden

if TYPE_CHECKING:
    import pandas as pd

# Text that begins so is a formula to spreadsheets. With an apostrophe before it, which they do not show, it
# is text; apostrophes that are there already are counted, so that reading takes away the one that was added.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_MARKED = re.compile(r"'+[=+\-@\t\r]")

_PART = 20_000
"""Rows that are written at once."""


def as_text(value: object) -> object:
    """A cell's value, with an apostrophe before a text that spreadsheets would compute; numbers stay."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_text(value: object) -> object:
    """The value that `as_text` was given."""
    return value[1:] if isinstance(value, str) and _MARKED.match(value) else value


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV; equal frames give equal bytes, and floats are written in full."""
    safe = with_text(frame, as_text)
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(_lines([tuple(safe.columns)]))
        # What DataFrame.to_csv writes, much faster; in parts, as Python objects take much memory.
        for start in range(0, len(safe), _PART):
            part = safe.iloc[start : start + _PART]
            columns = [part[name].astype(object).where(part[name].notna(), None).tolist() for name in part]
            stream.write(_lines(zip(*columns, strict=True)))


def _lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows as lines of CSV, without what is secret."""
    lines = StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return hidden(lines.getvalue())


def with_text(frame: pd.DataFrame, change: Callable[[object], object]) -> pd.DataFrame:
    """The frame with `change` applied to each text in it."""
    columns = {}
    for name in frame.select_dtypes("object").columns:
        texts: dict[object, object] = {
            value: change(value) for value in frame[name].unique() if isinstance(value, str)
        }
        texts = {old: new for old, new in texts.items() if old != new}
        if texts:
            columns[name] = frame[name].map(partial(_looked_up, texts))
    return frame.assign(**columns) if columns else frame


def _looked_up(texts: Mapping[object, object], value: object) -> object:
    return texts.get(value, value)
