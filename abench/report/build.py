"""Records -> table: which cells stand where, which are best, which need a note."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from abench.errors import UserError
from abench.report import notes
from abench.report.frame import Record, summarise, tidy
from abench.report.style import NO_STYLES, Styles, variant_order, variant_style
from abench.report.tables import Cell, Column, ColumnKey, Row, RowKey, Section, Table

Stats = dict[tuple[RowKey, ColumnKey], Cell]


def build_table(
    records: Iterable[Record], *, title: str = "", footnotes: Sequence[str] = (), styles: Styles = NO_STYLES
) -> Table:
    """The table of all headline metrics; `footnotes` follow its own notes.

    Raises UserError if there are no records.
    """
    cells = sorted(records, key=lambda record: str(record["key"]))
    if not cells:
        raise UserError("there is nothing to report: the run has no cells yet; start it with `abench run`")
    columns = headline_columns(cells)
    keys = _ordered(row_key(cell) for cell in cells)
    by_cell = notes.cell_notes(cells, row_key)
    numbered = _numbered(by_cell, keys, columns)
    stats = _with_marks(_with_best(_stats(cells, columns), columns), by_cell, numbered)
    rows = [_row(key, keys, columns, stats, styles) for key in keys]
    grouped = groupby(zip(keys, rows, strict=True), key=lambda pair: pair[0][:2])
    sections = [Section(model, site, tuple(row for _, row in pairs)) for (model, site), pairs in grouped]
    general = (*notes.general_notes(cells, sections, styles), *footnotes)
    several_widths = len({key.width for key in keys}) > 1
    return Table(title, columns, tuple(sections), numbered, general, several_widths)


def headline_columns(records: Iterable[Record]) -> tuple[Column, ...]:
    """The headline metrics of all tasks: `core` first, then by task; within a task as declared."""
    found: dict[ColumnKey, Mapping[str, Any]] = {}
    for record in records:
        labels = record["labels"]
        for metric in record["metrics"]:
            if metric["headline"]:
                found.setdefault(ColumnKey(labels["task"], labels["task_version"], metric["name"]), metric)
    versions = {(key.task, key.task_version) for key in found}
    several = {task for task, _ in versions if sum(other == task for other, _ in versions) > 1}
    ordered = sorted(found, key=lambda key: (key.task != "core", key.task, key.task_version))
    return tuple(_column(key, found[key], key.task in several) for key in ordered)


def row_key(record: Record) -> RowKey:
    """The row of the table to which a record's cell belongs."""
    return RowKey(*(record["labels"][label] for label in RowKey._fields))


def _column(key: ColumnKey, metric: Mapping[str, Any], name_version: bool) -> Column:
    label = f"{key.task} v{key.task_version}" if name_version else key.task
    return Column(*key, label, metric["title"], metric["description"], metric["higher_is_better"])


def _ordered(keys: Iterable[RowKey]) -> list[RowKey]:
    rows = set(keys)
    order = variant_order(row.variant for row in rows)
    return sorted(rows, key=lambda row: (*row[:3], order.index(row.variant), row.width, row.view))


def _row(key: RowKey, keys: Sequence[RowKey], columns: Sequence[Column], stats: Stats, styles: Styles) -> Row:
    cells = [stats.get((key, column.key), Cell()) for column in columns]
    seeds = max((cell.of for cell in cells), default=0)
    several_views = any(key == other._replace(view=key.view) and key != other for other in keys)
    title = variant_style(key.variant, styles).title + (f" ({key.view})" if several_views else "")
    counted = tuple(_with_count(cell, seeds) for cell in cells)
    return Row(key.k, key.variant, title, key.width, key.view, seeds, counted)


def _with_count(cell: Cell, seeds: int) -> Cell:
    return replace(cell, seeds_text=f"n = {cell.n}") if cell.mean is not None and cell.n != seeds else cell


def _stats(records: Sequence[Record], columns: Sequence[Column]) -> Stats:
    summary = summarise(tidy(records))
    stats = {}
    for column in columns:
        rows = summary[(summary[list(ColumnKey._fields)] == list(column.key)).all(axis=1)]
        decimals = decimals_for(rows["mean"].dropna())
        for row in rows.itertuples():
            key = RowKey(*(getattr(row, label) for label in RowKey._fields))
            stats[key, column.key] = _cell(row.mean, row.sd, row.n, row.N, decimals)
    return stats


def _cell(mean: float, sd: float, n: int, of: int, decimals: int) -> Cell:
    if n < of:
        return Cell(n=n, of=of, text=f"{n}/{of}" if n else "—")
    if math.isnan(sd):
        return Cell(mean, None, n, of, number(mean, decimals))
    return Cell(mean, sd, n, of, number(mean, decimals), number(sd, decimals))


def _with_best(stats: Stats, columns: Sequence[Column]) -> Stats:
    best = {key for column in columns if column.higher_is_better is not None for key in _best(stats, column)}
    return {key: replace(cell, bold=key in best) for key, cell in stats.items()}


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


def _with_marks(stats: Stats, by_cell: notes.CellNotes, numbered: Sequence[str]) -> Stats:
    def marks(row: RowKey, column: ColumnKey) -> tuple[int, ...]:
        texts = by_cell.get((row, (column.task, column.task_version)), ())
        return tuple(sorted(numbered.index(text) + 1 for text in texts))

    return {key: replace(cell, marks=marks(*key)) for key, cell in stats.items()}


def _numbered(by_cell: notes.CellNotes, keys: Sequence[RowKey], columns: Sequence[Column]) -> tuple[str, ...]:
    """The notes on cells in the order in which the table is read: by row, then by column."""
    tasks = dict.fromkeys((column.task, column.task_version) for column in columns)
    texts = (text for key in keys for task in tasks for text in by_cell.get((key, task), ()))
    return tuple(dict.fromkeys(texts))


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
