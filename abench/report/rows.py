"""Rows of tables: the cells that share one, their order, their titles, and tables made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from abench.report.cells import mean_cells
from abench.report.frame import Record
from abench.report.saes import absent_last
from abench.report.style import Styles, row_title, variant_order
from abench.report.tables import Column, RowKey, Section, Table, TableCell, TableRow
from abench.report.validity import is_valid

Planned: TypeAlias = Mapping[RowKey, int]
"""Row -> number of planned seeds."""


def row_key(record: Record) -> RowKey:
    """The table row that a record belongs to."""
    return RowKey._make(_labels(record["labels"]))


_labels = itemgetter(*RowKey._fields)


def _place(record: Record) -> tuple[str, str]:
    return record["labels"]["model"], record["labels"]["site"]


def ordered(keys: Iterable[RowKey]) -> list[RowKey]:
    """The rows without duplicates, in the order of tables."""
    rows = set(keys)
    order = variant_order(row.variant for row in rows)
    return sorted(
        rows, key=lambda row: (*row[:2], absent_last(row.k), order.index(row.variant), row.width, row.view)
    )


def row_titles(keys: Iterable[RowKey], styles: Styles) -> dict[RowKey, str]:
    """Row -> its variant's title, with the view if another row differs in nothing else; in order."""
    rows = list(keys)
    views = Counter(row._replace(view="") for row in rows)
    return {
        row: row_title(row.variant, styles) + (f" ({row.view})" if views[row._replace(view="")] > 1 else "")
        for row in rows
    }


def planned_seeds(records: Iterable[Record]) -> Planned:
    """The number of seeds of each row, with and without a result."""
    return Counter(map(row_key, records))


def stored(records: Iterable[Record], name: str) -> list[Record]:
    """The cells with a result that have details of this name, sorted by model and site."""
    found = (r for r in records if r["status"] == "done" and (r.get("details") or {}).get(name) is not None)
    return sorted(found, key=_place)


def by_row(cells: Iterable[Record]) -> dict[RowKey, list[Record]]:
    """The cells of each row, with the rows in the order of tables."""
    found: dict[RowKey, list[Record]] = {}
    for cell in cells:
        found.setdefault(row_key(cell), []).append(cell)
    return {key: found[key] for key in ordered(found)}


def by_place(cells: Iterable[Record]) -> Iterator[tuple[tuple[str, str], list[Record]]]:
    """Model and site, and their cells, which must be next to each other."""
    for place, group in groupby(cells, _place):
        yield place, list(group)


def sae_rows(
    cells: Sequence[Record],
    planned: Planned,
    styles: Styles,
    values: Callable[[Sequence[Record], int], Iterable[TableCell]],
) -> Iterator[TableRow]:
    """A row per SAE: `values(its cells, planned seeds)` returns what the columns show."""
    rows = by_row(cells)
    titles = row_titles(rows, styles)
    for key, own in rows.items():
        yield sae_row(key, titles[key], len(own), values(own, planned[key]))


def sae_row(key: RowKey, title: str, seeds: int, cells: Iterable[TableCell]) -> TableRow:
    """A row of an SAE."""
    return TableRow(key.k, key.variant, title, key.width, key.view, seeds, tuple(cells))


def other_row(name: str, title: str, cells: Iterable[TableCell]) -> TableRow:
    """A row of something that is no SAE of the run: a baseline, or numbers of the paper."""
    return TableRow(None, name, title, None, "native", None, tuple(cells))


def table_of(
    records: Sequence[Record], name: str, columns: Sequence[Column], styles: Styles, notes: Sequence[str] = ()
) -> Table | None:
    """What the cells of a task have stored in their details under `name`, as a table with a row per SAE.

    `details[name]` maps the metric of each column (`Column.own`) to a number. Shown are means over seeds ±
    sample standard deviations; n/N where a seed has no value, or one that does not mean anything. `notes`
    stand below the table. None if no cell has such details.
    """
    cells, planned = stored(records, name), planned_seeds(records)

    def values(column: Column, own: Sequence[Record]) -> list[float]:
        valid = (cell for cell in own if is_valid(cell, (column.metric,)))
        return [float(cell["details"][name][column.metric]) for cell in valid]

    rows = by_row(cells)
    shown = [mean_cells({key: values(c, own) for key, own in rows.items()}, planned) for c in columns]

    def of_sae(own: Sequence[Record], _: int) -> list[TableCell]:
        return [column[row_key(own[0])] for column in shown]

    sections = (
        Section(*place, tuple(sae_rows(mine, planned, styles, of_sae))) for place, mine in by_place(cells)
    )
    return Table("", tuple(columns), tuple(sections), tuple(notes)) if cells else None
