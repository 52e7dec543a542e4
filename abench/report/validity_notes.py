"""Notes on scores that do not mean anything; tables show — or n/N seeds in their place."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abench.report.frame import Record
from abench.report.saes import absent_last, with_k
from abench.report.style import Styles, variant_style
from abench.report.tables import Column, ColumnKey, RowKey, Section, Table, TableRow
from abench.report.validity import Precondition, below, number, unmet

InvalidNotes = Mapping[tuple[RowKey, ColumnKey], Sequence[str]]
"""(row, column) -> notes, for scores of which some seeds do not mean anything."""
Failing = Sequence[tuple[Record, Precondition]]

NAMED = 3
"""Maximum number of rows that a note names with their values; of more rows it states the range of values."""


def invalid_notes(
    records: Sequence[Record], row_key: Callable[[Record], RowKey], styles: Styles
) -> InvalidNotes:
    """One note per model, site, task and precondition, for any number of SAEs."""
    several = len({_place(record) for record in records}) > 1
    groups: dict[Any, list[tuple[Record, Precondition]]] = {}
    for record in sorted(records, key=lambda record: absent_last(record["labels"]["seed"])):
        for each in unmet(record):
            groups.setdefault(_group(record, each), []).append((record, each))
    found: dict[tuple[RowKey, ColumnKey], list[str]] = {}
    for group in sorted(groups, key=str):
        failing = groups[group]
        text = _note(failing, [r for r in records if _same_cells(r, failing[0][0])], styles, several)
        for record, each in failing:
            labels = record["labels"]
            for metric in each["metrics"]:
                place = (row_key(record), ColumnKey(labels["task"], labels["task_version"], metric))
                if text not in (texts := found.setdefault(place, [])):
                    texts.append(text)
    return found


def marked(
    table: Table,
    task: str,
    notes: InvalidNotes,
    place: Mapping[str, int],
    *,
    shown: bool = False,
) -> Table:
    """A task's own table with the numbers of the notes at cells in which seeds are missing.

    With `shown`, the table shows scores that do not mean anything, and they get the numbers, too. `place`
    maps a note to its number. A baseline's row, which has no k, gets the notes on all SAEs of its model and
    site.
    """
    texts_at: dict[Any, dict[str, None]] = {}
    for (key, column), texts in notes.items():
        if column.task == task:
            for at in (key, key[:2]):
                texts_at.setdefault((at, column.metric), {}).update(dict.fromkeys(texts))

    def marks(section: Section, row: TableRow, column: Column) -> tuple[int, ...]:
        site = (section.model, section.site)
        key = site if row.k is None else (*site, row.k, row.width, row.variant, row.view)
        texts = texts_at.get((key, column.metric), {})
        return tuple(sorted(place[text] for text in texts))

    def with_marks(section: Section, row: TableRow) -> TableRow:
        cells = (
            replace(
                cell, marks=marks(section, row, column) if cell.n < cell.of or (shown and cell.of) else ()
            )
            for column, cell in zip(table.columns, row.cells, strict=True)
        )
        return replace(row, cells=tuple(cells))

    sections = (
        replace(section, rows=tuple(with_marks(section, row) for row in section.rows))
        for section in table.sections
    )
    return replace(table, sections=tuple(sections))


def _place(record: Record) -> tuple[str, str]:
    return record["labels"]["model"], record["labels"]["site"]


def _group(record: Record, precondition: Precondition) -> tuple[Any, ...]:
    task = (record["labels"]["task"], record["labels"]["task_version"])
    named = (precondition["name"], precondition["title"], precondition["at_least"])
    return (*_place(record), *task, *named, precondition["description"])


def _same_cells(record: Record, other: Record) -> bool:
    """Whether both cells have scores of the same task, model and site."""
    names = ("model", "site", "task", "task_version")
    same = all(record["labels"][name] == other["labels"][name] for name in names)
    return same and record["status"] == "done"


def _note(failing: Failing, cells: Sequence[Record], styles: Styles, several: bool) -> str:
    """The sentence about one precondition at one model and site; `cells` are all that have scores there."""
    record, first = failing[0]
    where = f" at {', '.join(_place(record))}" if several else ""
    *others, last = _values(failing, cells, styles)
    told = f"{', '.join(others)} and {last}" if others else last
    sentence = (
        f"Not meaningful: {record['labels']['task']}{where}: {first['title']} is {told}, but at least "
        f"{number(first['at_least'])} is needed."
    )
    return " ".join(part for part in (sentence, first["description"].strip()) if part)


def _values(failing: Failing, cells: Sequence[Record], styles: Styles) -> Iterator[str]:
    """The values: a single one, one per row, or the range for the SAEs to which the note applies."""
    rows: dict[Any, list[tuple[Record, Precondition]]] = {}
    for record, each in failing:
        rows.setdefault(_row(record), []).append((record, each))
    whole = Counter(map(_row, cells))
    if len(failing) == len(cells) and len({each["value"] for _, each in failing}) == 1:
        yield below(failing[0][1])
    elif len(rows) <= NAMED:
        for row, mine in sorted(rows.items(), key=lambda each: (absent_last(each[0][0]), *each[0][1:])):
            yield f"{_range(mine)} ({_named(mine[0][0], len(mine), whole[row], styles)})"
    else:
        part = "all" if len(failing) == len(cells) else f"{len(failing)} of"
        yield f"{_range(failing)} ({part} {len(cells)} cells)"


def _row(record: Record) -> tuple[Any, ...]:
    return tuple(record["labels"][name] for name in ("k", "width", "variant", "view"))


def _range(failing: Failing) -> str:
    lowest, highest = (
        below(pick((each for _, each in failing), key=lambda each: each["value"])) for pick in (min, max)
    )
    return lowest if lowest == highest else f"{lowest} to {highest}"


def _named(record: Record, seeds: int, of: int, styles: Styles) -> str:
    labels = record["labels"]
    view = f", {labels['view']}" if labels["view"] != "native" else ""
    counted = f", {seeds} of {of} seeds" if seeds < of else ""
    k = f", {with_k(labels['k'])}" if labels["k"] is not None else ""
    return f"{variant_style(labels['variant'], styles).title}{k}{view}{counted}"
