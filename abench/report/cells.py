"""Summary over seeds -> the tables' cells: what is printed, and which is best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from abench.report.frame import Record
from abench.report.tables import Cell, Column, ColumnKey, RowKey

if TYPE_CHECKING:
    import pandas as pd

Stats = dict[tuple[RowKey, ColumnKey], Cell]


def stats_of(summary: pd.DataFrame, columns: Sequence[Column]) -> Stats:
    """The cells of these columns of a summary, the best ones marked."""
    found: Stats = {}
    for column in columns:
        rows = summary[(summary[list(ColumnKey._fields)] == list(column.key)).all(axis=1)]
        means = 1 - rows["mean"] if column.complement else rows["mean"]
        decimals = decimals_for(means.dropna())
        for mean, row in zip(means, rows.itertuples(), strict=True):
            key = RowKey(*(getattr(row, label) for label in RowKey._fields))
            found[key, column.key] = _cell(mean, row.sd, row.n, row.N, decimals)
    best = {key for column in columns if column.higher_is_better is not None for key in _best(found, column)}
    return {key: replace(cell, bold=key in best) for key, cell in found.items()}


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


def _best(stats: Stats, column: Column) -> set[tuple[RowKey, ColumnKey]]:
    """The best cells of each model, site and k, by the mean as printed: what looks equal is equal."""
    sign = 1 if column.higher_is_better else -1
    scored = {key[0]: sign * float(cell.text) for key, cell in stats.items() if _competes(key, cell, column)}
    best = set()
    for place in {row[:3] for row in scored}:
        block = {row: score for row, score in scored.items() if row[:3] == place}
        top, bottom = max(block.values()), min(block.values())
        if top > bottom and len({row.variant for row in block}) > 1:
            best |= {(row, column.key) for row, score in block.items() if score == top}
    return best


def _competes(key: tuple[RowKey, ColumnKey], cell: Cell, column: Column) -> bool:
    return key[1] == column.key and cell.mean is not None


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
