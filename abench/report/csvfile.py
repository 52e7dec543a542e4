"""CSV that is safe to open in spreadsheets: text never becomes a formula."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.sanitize.secrets import hidden

if TYPE_CHECKING:
    import pandas as pd

# Spreadsheets treat text that begins like this as a formula. An apostrophe before it, which they do not show,
# makes it text. Text that already begins with apostrophes gets one more, so that reading removes exactly one.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_MARKED = re.compile(r"'+[=+\-@\t\r]")

_PART = 20_000
"""Rows written at once."""


def as_text(value: object) -> object:
    """The value, with an apostrophe before text that spreadsheets would evaluate; numbers are unchanged."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_text(value: object) -> object:
    """The inverse of `as_text`."""
    return value[1:] if isinstance(value, str) and _MARKED.match(value) else value


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame of two or more columns as CSV; equal frames give equal bytes, floats are in full."""
    texts = _Fields(keep=str)
    with path.open("w", encoding="utf-8", newline="") as stream:
        header = StringIO(newline="")
        csv.writer(header, lineterminator="\n").writerow(frame.columns)
        stream.write(hidden(header.getvalue()))
        # Same output as DataFrame.to_csv, but much faster; in parts, because Python objects need much memory.
        for start in range(0, len(frame), _PART):
            part = frame.iloc[start : start + _PART]
            lines = map(",".join, zip(*(_column(part[name], texts) for name in part), strict=True))
            stream.write(hidden("\n".join([*lines, ""])))


def _column(column: pd.Series[Any], texts: _Fields) -> list[str]:
    """The text of each value; empty for an absent one."""
    values = column.tolist()
    if column.dtype == "float64":
        return ["" if value != value else repr(value) for value in values]
    fields = texts if column.dtype == "object" else _Fields(keep=object)
    return [fields[value] for value in values]


class _Fields(dict[object, str]):
    """A cache of value -> the csv module's text for it; only values of the type `keep` are cached.

    Values of several types must not share a cache: 1, 1.0 and True would be one key.
    """

    def __init__(self, keep: type) -> None:
        self._keep = keep

    def __missing__(self, value: object) -> str:
        field = _field(value)
        if isinstance(value, self._keep):
            self[value] = field
        return field


def _field(value: object) -> str:
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    out = StringIO()
    # With a second field, because an empty text alone on its line would be quoted.
    csv.writer(out, lineterminator="\n").writerow((as_text(value), ""))
    return out.getvalue().removesuffix(",\n")


def with_text(frame: pd.DataFrame, change: Callable[[object], object]) -> pd.DataFrame:
    """The frame with `change` applied to every text in it."""
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
