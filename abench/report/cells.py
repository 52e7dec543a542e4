"""Summary over seeds -> the tables' cells: what is printed, and which is best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from abench.report.frame import Record
from abench.report.tables import Cell, Column, ColumnKey, RowKey

if TYPE_CHECKING:
    import pandas as pd

Stats = dict[tuple[RowKey, ColumnKey], Cell]
Summary = Mapping[ColumnKey, Sequence[tuple[RowKey, float, float, int, int]]]
"""By column, what stands in its rows: mean, sd, seeds with a value, seeds planned; NaN if absent."""


def by_column(summary: pd.DataFrame) -> Summary:
    """A frame of `summarise` as tables read it."""
    found: dict[ColumnKey, list[tuple[RowKey, float, float, int, int]]] = {}
    columns, rows = (
        zip(*(summary[name].tolist() for name in fields), strict=True)
        for fields in (ColumnKey._fields, RowKey._fields)
    )
    values = zip(*(summary[name].tolist() for name in ("mean", "sd", "n", "N")), strict=True)
    for column, row, (mean, sd, n, of) in zip(columns, rows, values, strict=True):
        found.setdefault(ColumnKey(*column), []).append((RowKey(*row), mean, sd, n, of))
    return found


def stats_of(summary: Summary, columns: Sequence[Column]) -> Stats:
    """The cells of these columns of a summary, the best ones marked."""
    found: Stats = {}
    for column in columns:
        cells = _cells(summary.get(column.key, ()), complement=column.complement)
        best = _best(cells, column) if column.higher_is_better is not None else set()
        found |= {
            (row, column.key): replace(cell, bold=True) if row in best else cell
            for row, cell in cells.items()
        }
    return found


def _cells(rows: Sequence[tuple[RowKey, float, float, int, int]], *, complement: bool) -> dict[RowKey, Cell]:
    means = [1 - mean if complement else mean for _, mean, *_ in rows]
    decimals = decimals_for(mean for mean in means if not math.isnan(mean))
    return {
        row: _cell(mean, sd, n, of, decimals) for mean, (row, _, sd, n, of) in zip(means, rows, strict=True)
    }


def planned_seeds(records: Iterable[Record], task: str) -> Counter[tuple[Any, ...]]:
    """How many seeds a run has of each row of a task's own table: model, site, k, variant, width."""
    return Counter(place_of(record) for record in records if record["labels"]["task"] == task)


def place_of(record: Record) -> tuple[Any, ...]:
    """The row of a task's own table that a cell belongs to: model, site, k, variant, width."""
    return tuple(record["labels"][name] for name in ("model", "site", "k", "variant", "width"))


def lacking_cell(n: int, of: int) -> Cell:
    """What stands where fewer seeds have a value than were planned: no mean."""
    return Cell(n=n, of=of, text=f"{n}/{of}" if n else "—")


def share_cell(shares: Sequence[Sequence[float]], of: int) -> Cell:
    """A share in percent: mean ± sd over `of` seeds, or one seed's value with its 95 % interval.

    A share is [value, low, high, n], as tasks keep it in their details. No mean where a seed is lacking.
    """
    if len(shares) < of:
        return lacking_cell(len(shares), of)
    values = [100 * share[0] for share in shares]
    mean, n = fmean(values), len(values)
    if n > 1:
        return Cell(mean, stdev(values), n, n, f"{mean:.1f}", f"{stdev(values):.1f}")
    _, low, high, _ = shares[0]
    return Cell(mean, None, n, n, f"{mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]")


def _cell(mean: float, sd: float, n: int, of: int, decimals: int) -> Cell:
    if n < of:
        return lacking_cell(n, of)
    if math.isnan(sd):
        return Cell(mean, None, n, of, number(mean, decimals))
    return Cell(mean, sd, n, of, number(mean, decimals), number(sd, decimals))


def _best(cells: Mapping[RowKey, Cell], column: Column) -> set[RowKey]:
    """The best cells of each model, site and k, by the mean as printed: what looks equal is equal."""
    sign = 1 if column.higher_is_better else -1
    blocks: dict[tuple[Any, ...], dict[RowKey, float]] = {}
    for row, cell in cells.items():
        if cell.mean is not None:
            blocks.setdefault(row[:3], {})[row] = sign * float(cell.text)
    best = set()
    for block in blocks.values():
        top, bottom = max(block.values()), min(block.values())
        if top > bottom and len({row.variant for row in block}) > 1:
            best |= {row for row, score in block.items() if score == top}
    return best


def decimals_for(means: Iterable[float]) -> int:
    """Decimals that show three digits of a column's largest mean and, by one more, two of its smallest."""
    sizes = [abs(mean) for mean in means if mean]
    if not sizes:
        return 3
    base = 2 - math.floor(math.log10(max(sizes)))
    return max(0, min(base + 1, max(base, 1 - math.floor(math.log10(min(sizes))))))


def number(value: float, decimals: int) -> str:
    """The value with this many decimals, or in powers of ten where that would be a row of zeros."""
    if decimals > 6:
        return f"{value:.2e}"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text
