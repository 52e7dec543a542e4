"""What tasks add to reports: which tasks do, and the cells of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from abench.plugins import find_tasks
from abench.report.frame import Record
from abench.task import Task

Tasks = Mapping[str, type[Task]]
"""Tasks by name."""
Returned = TypeVar("Returned")


@cache
def installed_tasks() -> Tasks:
    """The installed tasks that can be used."""
    return {name: each.value for name, each in find_tasks().items() if each.value is not None}


def of_tasks(records: Iterable[Record], tasks: Tasks) -> Iterator[tuple[str, type[Task], list[Record]]]:
    """Name, class and cells of each task that has cells, by name."""
    by_task = _by_task(records)
    for name in sorted(by_task.keys() & tasks.keys()):
        yield name, tasks[name], by_task[name]


def all_of(kind: type[Returned], hook: str, found: Iterable[Any]) -> tuple[Returned, ...]:
    """What a task's hook returned, as a tuple; raises ValueError if something in it is of another type."""
    returned = (found,) if isinstance(found, str) else tuple(found)
    for each in returned:
        if not isinstance(each, kind):
            name = kind.__name__ if kind is str else f"abench.{kind.__name__}"
            raise ValueError(f"{hook}() must return {name}, not {type(each).__name__}")
    return returned


def unknown_tasks(records: Iterable[Record], tasks: Tasks) -> list[str]:
    """A sentence per task whose cells have details that only the task could show."""
    return [
        f"The task {name} is not installed: tables, figures and notes of its own are missing, if it has any."
        for name, cells in sorted(_by_task(records).items())
        if name not in tasks and any(cell.get("details") for cell in cells)
    ]


def _by_task(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(str(record["labels"]["task"]), []).append(record)
    return found
