"""From summaries over seeds to the cells of tables: the printed text, and which cell is best."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from abench.report.frame import Record
from abench.report.items import item_interval, items_of
from abench.report.parts import Bases
from abench.report.saes import present
from abench.report.tables import Column, ColumnKey, RowKey, TableCell
from abench.statistics import Interval, not_told_from_best, summary_of

if TYPE_CHECKING:
    import pandas as pd

Stats = dict[tuple[RowKey, ColumnKey], TableCell]
Seeds = Mapping[tuple[RowKey, ColumnKey], Mapping[int, float]]
"""The value of each seed of a row in a column, for rows with several seeds."""


ItemIntervals = Mapping[tuple[RowKey, ColumnKey], Interval]


class Means(NamedTuple):
    """A row's mean over seeds in one column; NaN for absent numbers."""

    row: RowKey
    mean: float
    sd: float
    n: int
    of: int
    """Number of planned seeds."""
    low: float
    high: float


Summary = Mapping[ColumnKey, Sequence[Means]]


def by_column(summary: pd.DataFrame) -> Summary:
    """The data frame of `summarise`, grouped by column."""
    found: dict[ColumnKey, list[Means]] = {}
    columns, rows = (
        zip(*(map(present, summary[name].tolist()) for name in fields), strict=True)
        for fields in (ColumnKey._fields, RowKey._fields)
    )
    values = zip(*(summary[name].tolist() for name in ("mean", "sd", "n", "N", "low", "high")), strict=True)
    for column, row, numbers in zip(columns, rows, values, strict=True):
        found.setdefault(ColumnKey(*column), []).append(Means(RowKey(*row), *numbers))
    return found


def by_seed(frame: pd.DataFrame, columns: Iterable[Column]) -> Seeds:
    """The valid values of the columns' metrics, by row, column and seed, from a tidy frame."""
    wanted = {column.key for column in columns}
    metrics = frame["metric"].isin([key.metric for key in wanted])
    usable = frame[metrics & frame["valid"].fillna(value=False).astype(bool) & frame["seed"].notna()]
    fields = [*ColumnKey._fields, *RowKey._fields, "seed", "value"]
    found: dict[tuple[RowKey, ColumnKey], dict[int, float]] = {}
    for values in zip(*(map(present, usable[name].tolist()) for name in fields), strict=True):
        column = ColumnKey(*values[:3])
        if column in wanted:
            found.setdefault((RowKey(*values[3:9]), column), {})[values[9]] = values[10]
    return {place: seeds for place, seeds in found.items() if len(seeds) > 1}


def item_intervals(
    records: Iterable[Record], row_key: Callable[[Record], RowKey], columns: Collection[ColumnKey]
) -> ItemIntervals:
    """The interval over items of each row and column with a single seed whose cell has items."""
    of_row: defaultdict[tuple[RowKey, str, str], list[Record]] = defaultdict(list)
    for record in records:
        of_row[row_key(record), record["labels"]["task"], record["labels"]["task_version"]].append(record)
    found: dict[tuple[RowKey, ColumnKey], Interval] = {}
    for (row, task, version), (record, *others) in of_row.items():
        for metric in () if others else record["metrics"]:
            column = ColumnKey(task, version, metric["name"])
            items = items_of(record, metric) if column in columns else None
            if items and (interval := item_interval(items)) is not None:
                found[row, column] = interval
    return found


def stats_of(
    summary: Summary,
    columns: Sequence[Column],
    bases: Bases,
    seeds: Seeds = MappingProxyType({}),
    over_items: ItemIntervals = MappingProxyType({}),
) -> Stats:
    """The cells of these columns, with the best ones marked; only cells of equal `bases` are compared.

    With several `seeds`, cells that cannot be told from the best are marked, too; with one, a cell shows its
    interval over items. Seeds that rest on different parts of the data have no mean.
    """
    found: Stats = {}
    for column in columns:
        own = {row: each for (row, task), each in bases.items() if task == column.key[:2]}
        means = [
            _over_items(each, over_items.get((each.row, column.key))) for each in summary.get(column.key, ())
        ]
        cells = _cells(means, complement=column.complement)
        cells |= {
            row: _without_mean(cells[row]) for row, each in own.items() if row in cells and len(each) > 1
        }
        values = {row: each for row in cells if (each := seeds.get((row, column.key))) is not None}
        best = _best(cells, column, own, values) if column.higher_is_better is not None else set()
        found |= {
            (row, column.key): replace(cell, bold=True) if row in best else cell
            for row, cell in cells.items()
        }
    return found


def _cells(rows: Sequence[Means], *, complement: bool) -> dict[RowKey, TableCell]:
    shown = [_complement(each) if complement else each for each in rows]
    decimals = decimals_for(each.mean for each in shown if not math.isnan(each.mean))
    return {each.row: _cell(each, decimals) for each in shown}


def _over_items(means: Means, interval: Interval | None) -> Means:
    """With the interval over items if there is a single seed, which has none over seeds."""
    return means if interval is None or means.of > 1 else means._replace(low=interval.low, high=interval.high)


def _complement(means: Means) -> Means:
    """The means of 1 − score."""
    return means._replace(mean=1 - means.mean, low=1 - means.high, high=1 - means.low)


def lacking_cell(n: int, of: int) -> TableCell:
    """The cell shown if fewer seeds have a value than planned: no mean, but n/N."""
    return TableCell(n=n, of=of, text=f"{n}/{of}" if n else "—")


def mean_cells(
    values: Mapping[RowKey, Sequence[float]], planned: Mapping[RowKey, int]
) -> dict[RowKey, TableCell]:
    """The cells of one column from the values of each row's seeds, with the precision of the whole column."""
    return _cells([_of_seeds(row, each, planned[row]) for row, each in values.items()], complement=False)


def _of_seeds(row: RowKey, values: Sequence[float], of: int) -> Means:
    nan = math.nan
    if not values:
        return Means(row, nan, nan, 0, of, nan, nan)
    found = summary_of(values)
    low, high = found.interval or (nan, nan)
    return Means(row, found.mean, nan if found.sd is None else found.sd, found.n, of, low, high)


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


def _cell(means: Means, decimals: int) -> TableCell:
    _, mean, sd, n, of, low, high = means
    if n < of:
        return lacking_cell(n, of)
    text = number(mean, decimals)
    if math.isnan(low):
        return TableCell(mean, None, n, of, text)
    interval = f"[{number(low, decimals)}, {number(high, decimals)}]"
    if math.isnan(sd):
        return TableCell(mean, None, n, of, text, "", low, high, interval)
    return TableCell(mean, sd, n, of, text, number(sd, decimals), low, high, interval)


def _without_mean(cell: TableCell) -> TableCell:
    """The cell of seeds that must not be averaged."""
    return TableCell(of=cell.of, text="—")


def _best(
    cells: Mapping[RowKey, TableCell],
    column: Column,
    bases: Mapping[RowKey, Any],
    seeds: Mapping[RowKey, Mapping[int, float]],
) -> set[RowKey]:
    """The best cells of each model, site and k, by the printed mean, so that equal-looking means tie.

    Cells whose seeds do not tell them from the best are among them. Only rows with equal `bases` are
    compared.
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
            best |= (leaders := {row for row, score in block.items() if score == top})
            own = {row: seeds[row] for row in block if row in seeds}
            for leader in leaders & set(own):
                best |= not_told_from_best(own, leader)
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
