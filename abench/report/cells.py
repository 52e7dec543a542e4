"""From summaries over seeds to the cells of tables: the printed text, and which cell is best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from abench.report.frame import Record
from abench.report.parts import Bases
from abench.report.saes import present
from abench.report.tables import Column, ColumnKey, RowKey, TableCell

if TYPE_CHECKING:
    import pandas as pd

Stats = dict[tuple[RowKey, ColumnKey], TableCell]
Summary = Mapping[ColumnKey, Sequence[tuple[RowKey, float, float, int, int]]]
"""Column -> (row, mean, sd, seeds with a value, planned seeds); NaN for absent numbers."""


def by_column(summary: pd.DataFrame) -> Summary:
    """The data frame of `summarise`, grouped by column."""
    found: dict[ColumnKey, list[tuple[RowKey, float, float, int, int]]] = {}
    columns, rows = (
        zip(*(map(present, summary[name].tolist()) for name in fields), strict=True)
        for fields in (ColumnKey._fields, RowKey._fields)
    )
    values = zip(*(summary[name].tolist() for name in ("mean", "sd", "n", "N")), strict=True)
    for column, row, (mean, sd, n, of) in zip(columns, rows, values, strict=True):
        found.setdefault(ColumnKey(*column), []).append((RowKey(*row), mean, sd, n, of))
    return found


def stats_of(summary: Summary, columns: Sequence[Column], bases: Bases) -> Stats:
    """The cells of these columns, with the best ones marked; only cells of equal `bases` are compared.

    Seeds that rest on different parts of the data have no mean.
    """
    found: Stats = {}
    for column in columns:
        own = {row: each for (row, task), each in bases.items() if task == column.key[:2]}
        cells = _cells(summary.get(column.key, ()), complement=column.complement)
        cells |= {
            row: _without_mean(cells[row]) for row, each in own.items() if row in cells and len(each) > 1
        }
        best = _best(cells, column, own) if column.higher_is_better is not None else set()
        found |= {
            (row, column.key): replace(cell, bold=True) if row in best else cell
            for row, cell in cells.items()
        }
    return found


def _cells(
    rows: Sequence[tuple[RowKey, float, float, int, int]], *, complement: bool
) -> dict[RowKey, TableCell]:
    means = [1 - mean if complement else mean for _, mean, *_ in rows]
    decimals = decimals_for(mean for mean in means if not math.isnan(mean))
    return {
        row: _cell(mean, sd, n, of, decimals) for mean, (row, _, sd, n, of) in zip(means, rows, strict=True)
    }


def planned_seeds(records: Iterable[Record], task: str) -> Counter[tuple[Any, ...]]:
    """The number of planned seeds per row of a task's own table: (model, site, k, variant, width)."""
    return Counter(place_of(record) for record in records if record["labels"]["task"] == task)


def place_of(record: Record) -> tuple[Any, ...]:
    """The row of a task's own table that a cell belongs to: (model, site, k, variant, width)."""
    return tuple(record["labels"][name] for name in ("model", "site", "k", "variant", "width"))


def lacking_cell(n: int, of: int) -> TableCell:
    """The cell shown if fewer seeds have a value than planned: no mean, but n/N."""
    return TableCell(n=n, of=of, text=f"{n}/{of}" if n else "—")


def share_cell(shares: Sequence[Sequence[float]], of: int) -> TableCell:
    """A share in percent: mean ± sd over `of` seeds, or one seed's value with its 95 % interval.

    A share is [value, low, high, n], as in tasks' details. There is no mean if a seed is missing.
    """
    if len(shares) < of:
        return lacking_cell(len(shares), of)
    values = [100 * share[0] for share in shares]
    mean, n = fmean(values), len(values)
    if n > 1:
        return TableCell(mean, stdev(values), n, n, f"{mean:.1f}", f"{stdev(values):.1f}")
    _, low, high, _ = shares[0]
    return TableCell(mean, None, n, n, f"{mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]")


def _cell(mean: float, sd: float, n: int, of: int, decimals: int) -> TableCell:
    if n < of:
        return lacking_cell(n, of)
    if math.isnan(sd):
        return TableCell(mean, None, n, of, number(mean, decimals))
    return TableCell(mean, sd, n, of, number(mean, decimals), number(sd, decimals))


def _without_mean(cell: TableCell) -> TableCell:
    """The cell of seeds that must not be averaged."""
    return TableCell(of=cell.of, text="—")


def _best(cells: Mapping[RowKey, TableCell], column: Column, bases: Mapping[RowKey, Any]) -> set[RowKey]:
    """The best cells of each model, site and k, by the printed mean, so that equal-looking means tie.

    Only rows with equal `bases` are compared.
    """
    sign = 1 if column.higher_is_better else -1
    blocks: dict[tuple[Any, ...], dict[RowKey, float]] = {}
    for row, cell in cells.items():
        if cell.mean is not None:
            blocks.setdefault((*row[:3], bases.get(row)), {})[row] = sign * float(cell.text)
    best = set()
    for block in blocks.values():
        top, bottom = max(block.values()), min(block.values())
        if top > bottom and len({row.variant for row in block}) > 1:
            best |= {row for row, score in block.items() if score == top}
    return best


def decimals_for(means: Iterable[float]) -> int:
    """Decimals for three digits of a column's largest mean and, with one more if needed, two of the least."""
    sizes = [abs(mean) for mean in means if mean]
    if not sizes:
        return 3
    base = 2 - math.floor(math.log10(max(sizes)))
    return max(0, min(base + 1, max(base, 1 - math.floor(math.log10(min(sizes))))))


def number(value: float, decimals: int) -> str:
    """The value with this many decimals, or in scientific notation if more than six would be needed."""
    if decimals > 6:
        return f"{value:.2e}"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text
