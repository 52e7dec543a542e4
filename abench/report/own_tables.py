"""Tables and notes of tasks' own (`abench.TaskTable`, `Task.notes`), made from their cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from abench.report.attempts import attempt, attempt_readable
from abench.report.frame import Record
from abench.report.own import Tasks, all_of, of_tasks
from abench.report.style import Styles
from abench.report.tables import Table
from abench.report.validity_notes import InvalidNotes, marked
from abench.sanitize.printable import all_visible, visible
from abench.tables import TaskTable
from abench.task import Task

T = TypeVar("T")
_TABLE = TypeAdapter(Table)
_DECLARED = TypeAdapter(TaskTable)


@dataclass(frozen=True)
class OwnTable:
    """A table of a task's own as it was made."""

    task: str
    declared: TaskTable
    table: Table
    whole: bool
    """Whether all cells could be read."""

    @property
    def replaces_headline(self) -> bool:
        """Whether it stands in place of the task's headline metrics."""
        return self.declared.replaces_headline and self.whole

    def marked(self, notes: InvalidNotes, place: Mapping[str, int]) -> Table:
        """The table with the numbers of notes (note -> number) on scores that do not mean anything."""
        return marked(self.table, self.task, notes, place, shown=self.declared.shows_invalid)


def own_tables(records: Iterable[Record], tasks: Tasks, styles: Styles) -> tuple[list[OwnTable], list[str]]:
    """The tables of all tasks that have cells, in reading order, and a sentence for each fault."""
    found: list[OwnTable] = []
    problems: list[str | None] = []
    for name, task, cells in of_tasks(records, tasks):
        none: tuple[TaskTable, ...] = ()
        tables, problem = attempt(f"The tables of task {name}", partial(_declared, task), none)
        problems.append(problem)
        for each in tables:
            what = f"The table '{each.title}' of task {name}"
            table, problem = attempt_readable(what, partial(_made, each, name, styles), cells, None)
            problems.append(problem)
            found += [OwnTable(name, each, table, problem is None)] if table is not None else []
    found.sort(key=lambda own: (own.declared.paper is None, own.declared.paper or 0))
    return found, [problem for problem in problems if problem is not None]


def own_notes(records: Iterable[Record], tasks: Tasks) -> tuple[list[str], list[str]]:
    """The notes of all tasks that have cells, and a sentence for each fault."""
    found: list[str] = []
    problems: list[str] = []
    for name, task, cells in of_tasks(records, tasks):
        none: tuple[str, ...] = ()
        notes, problem = attempt_readable(f"The notes of task {name}", partial(_noted, task), cells, none)
        found += notes
        problems += [problem] if problem is not None else []
    return found, problems


def _made(declared: TaskTable, task: str, styles: Styles, records: Sequence[Record]) -> Table | None:
    """The table, with its title as heading; raises TypeError or ValueError for one that cannot be shown."""
    made = declared.make(records, styles)
    if made is None:
        return None
    if not isinstance(made, Table):
        raise TypeError(f"it must be an abench.report.Table, not {type(made).__name__}")
    table = _checked(_TABLE, all_visible(asdict(made)) | {"heading": declared.title})
    for row in table.rows():
        if len(row.cells) != len(table.columns):
            raise ValueError(f"row '{row.title}' has {len(row.cells)} cells for {len(table.columns)} columns")
    return replace(table, columns=tuple(replace(column, task=task) for column in table.columns))


def _declared(task: type[Task]) -> tuple[TaskTable, ...]:
    return tuple(_checked(_DECLARED, vars(each)) for each in all_of(TaskTable, "tables", task.tables()))


def _noted(task: type[Task], records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(map(visible, all_of(str, "notes", task.notes(records))))


def _checked(kind: TypeAdapter[T], fields: Mapping[str, Any]) -> T:
    """The record with these fields; raises ValueError for the first one of another type."""
    try:
        return kind.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
