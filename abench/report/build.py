"""Building tables from records: the position of each cell, and the cells that need a note."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from abench.errors import UserError
from abench.report import notes
from abench.report.cells import Stats, by_column, by_seed, item_intervals, stats_of
from abench.report.columns import by_task, headline_columns, paper_columns
from abench.report.frame import Record, summarise, tidy
from abench.report.own import Tasks, installed_tasks, unknown_tasks
from abench.report.own_tables import own_notes, own_tables
from abench.report.paper import failings, paper_notes, with_printed
from abench.report.parts import bases_of
from abench.report.resolution import with_resolution
from abench.report.rows import ordered, row_key, row_titles, sae_row
from abench.report.style import NO_STYLES, Styles
from abench.report.tables import Column, ColumnKey, RowKey, Section, Table, TableCell, TableRow, Tables
from abench.report.validity_notes import InvalidNotes, invalid_notes

if TYPE_CHECKING:
    import pandas as pd

PAPER_HEADING = "Tasks as in the paper"


def build_tables(
    records: Iterable[Record],
    *,
    title: str = "",
    footnotes: Sequence[str] = (),
    styles: Styles = NO_STYLES,
    summary: pd.DataFrame | None = None,
    frame: pd.DataFrame | None = None,
    metrics: Sequence[str] | None = None,
    tasks: Tasks | None = None,
) -> Tables:
    """The paper's table of tasks, tasks' own tables, then the headline metrics of each task.

    `footnotes` follow the notes. With `metrics`, there is one table of these metrics, in this order. `frame`
    is `tidy` of the records and `summary` is `summarise` of it, if already computed. `tasks` are the tasks by
    name, for tables and notes of their own (default: the installed ones). Raises UserError if there are no
    records.
    """
    cells = sorted(records, key=lambda record: str(record["key"]))
    if not cells:
        raise UserError("there is nothing to report: the run has no cells yet; start it with `abench run`")
    paper, headline = paper_columns(cells), headline_columns(cells)
    if metrics is not None:
        paper, headline = (), _in_order(headline, metrics)
    frame = tidy(cells) if frame is None else frame
    values = by_column(summarise(frame) if summary is None else summary)
    seeds = by_seed(frame, (*paper, *headline))
    keys = ordered(map(row_key, cells))
    by_cell, invalid = notes.cell_notes(cells, row_key), invalid_notes(cells, row_key, styles)
    tasks = installed_tasks() if tasks is None else tasks
    own, problems = own_tables(cells, tasks, styles) if metrics is None else ([], [])
    numbered = _numbered(by_cell, invalid, keys, [paper, *by_task(headline)], {each.task for each in own})
    over_items = item_intervals(cells, row_key, {column.key for column in (*paper, *headline)})
    bases = bases_of(cells, row_key)
    place = {text: i for i, text in enumerate(numbered, 1)}

    def table(heading: str, columns: Sequence[Column]) -> Table:
        stats = _with_marks(stats_of(values, columns, bases, seeds, over_items), by_cell, invalid, place)
        return _table(heading, columns, keys, stats, styles)

    wide = table("", headline)
    if metrics is not None:
        only = Tables(title, None, (wide,), wide, numbered, ())
        return replace(only, general=(*notes.general_notes(cells, only.shown, styles), *footnotes))
    first = _paper_table(table(PAPER_HEADING, paper), styles) if paper else None
    # Scores in the first table need not be repeated.
    seen = {column.key for column in paper if not column.complement}
    replaced = {each.task for each in own if each.replaces_headline} - _lacking_values(cells)
    seen |= {column.key for column in headline if column.task in replaced}
    rest = [each for each in by_task(headline) if {column.key for column in each} - seen]
    of_tasks = tuple(_under_heading(table(each[0].task_label, each)) for each in rest)
    if first is None and not own and len(of_tasks) <= 1:
        of_tasks = (wide,)
    marked = tuple(each.marked(invalid, place) for each in own)
    tables = Tables(title, first, of_tasks, wide, numbered, (), marked)
    told, more_problems = own_notes(cells, tasks)
    general = notes.general_notes(cells, tables.shown, styles)
    problems = [*problems, *more_problems, *unknown_tasks(cells, tasks)]
    return replace(tables, general=(*general, *told, *problems, *footnotes))


def _in_order(columns: Sequence[Column], metrics: Sequence[str]) -> tuple[Column, ...]:
    """The columns in the order of the metrics' names; others, of cells that cannot be shown, come last."""
    place = {name: number for number, name in enumerate(metrics)}
    return tuple(sorted(columns, key=lambda column: place.get(column.metric, len(place))))


def _lacking_values(cells: Iterable[Record]) -> set[str]:
    """The tasks with a cell without a value, whose headline metrics have notes on why."""
    return {cell["labels"]["task"] for cell in cells if cell["status"] != "done"}


def _table(
    heading: str, columns: Sequence[Column], keys: Sequence[RowKey], stats: Stats, styles: Styles
) -> Table:
    """A table of these columns, without rows that have no cell in them."""
    mine = [key for key in keys if any((key, column.key) in stats for column in columns)]
    titles = row_titles(mine, styles)
    rows = [_row(key, titles[key], columns, stats) for key in mine]
    grouped = groupby(zip(mine, rows, strict=True), key=lambda pair: pair[0][:2])
    sections = [Section(model, site, tuple(row for _, row in pairs)) for (model, site), pairs in grouped]
    return with_resolution(Table(heading, tuple(columns), tuple(sections), failings(columns)))


def _paper_table(table: Table, styles: Styles) -> Table:
    with_paper = with_printed(table, styles)
    return replace(with_paper, notes=(*paper_notes(with_paper), *table.notes))


def _under_heading(table: Table) -> Table:
    """The table without the task's name above each column, because the heading contains it."""
    return replace(table, columns=tuple(replace(column, task_label="") for column in table.columns))


def _row(key: RowKey, title: str, columns: Sequence[Column], stats: Stats) -> TableRow:
    cells = [stats.get((key, column.key), TableCell()) for column in columns]
    seeds = max((cell.of for cell in cells), default=0)
    return sae_row(key, title, seeds, (_with_count(cell, seeds) for cell in cells))


def _with_count(cell: TableCell, seeds: int) -> TableCell:
    return replace(cell, seeds_text=f"n = {cell.n}") if cell.mean is not None and cell.n != seeds else cell


def _with_marks(
    stats: Stats, by_cell: notes.CellNotes, invalid: InvalidNotes, place: Mapping[str, int]
) -> Stats:
    def marks(row: RowKey, column: ColumnKey) -> tuple[int, ...]:
        texts = (*by_cell.get((row, column[:2]), ()), *invalid.get((row, column), ()))
        return tuple(sorted(place[text] for text in texts))

    marked = {(row, key): numbers for row, key in stats if (numbers := marks(row, key))}
    return stats | {each: replace(stats[each], marks=numbers) for each, numbers in marked.items()}


def _numbered(
    by_cell: notes.CellNotes,
    invalid: InvalidNotes,
    keys: Sequence[RowKey],
    tables: Sequence[Sequence[Column]],
    own: Collection[str],
) -> tuple[str, ...]:
    """The notes on cells in reading order of the tables: by row, then by column.

    `own` are the tasks with tables of their own, which may have columns of metrics that are no headline.
    """
    of_columns = (
        text
        for columns in tables
        for key in keys
        for text in (
            *(t for task in _tasks(columns) for t in by_cell.get((key, task), ())),
            *(t for column in columns for t in invalid.get((key, column.key), ())),
        )
    )
    of_own_tables = (text for (_, column), texts in invalid.items() if column.task in own for text in texts)
    return tuple(dict.fromkeys((*of_columns, *of_own_tables)))


def _tasks(columns: Sequence[Column]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(column.key[:2] for column in columns))
