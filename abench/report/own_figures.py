"""Figures of tasks' own (`abench.TaskFigure`): collected from the tasks, drawn from their cells."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from abench.figures import Records, TaskFigure
from abench.plugins import find_tasks
from abench.report.attempts import attempt
from abench.report.details import drawn
from abench.report.drawings import Drawings
from abench.report.figures import figure_names
from abench.report.frame import Record
from abench.report.interactive.series import ChartMaker
from abench.report.style import Styles
from abench.report.validity import is_valid
from abench.task import Task

if TYPE_CHECKING:
    import pandas as pd

Tasks = Mapping[str, type[Task]]
"""Tasks by name."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN = frozenset({"comparisons", "data", "paper", "table"})
"""Names of a report's other CSV files."""


@dataclass(frozen=True)
class OwnFigure:
    """A figure of a task's own as it was drawn."""

    task: str
    title: str
    caption: str
    files: tuple[Path, ...]
    """A PNG file per model and site."""
    chart: ChartMaker | None


@cache
def installed_tasks() -> Tasks:
    """The installed tasks that can be used."""
    return {name: each.value for name, each in find_tasks().items() if each.value is not None}


def own_figures(
    records: Iterable[Record], tasks: Tasks, drawings: Drawings, styles: Styles
) -> tuple[list[OwnFigure], list[str]]:
    """Draw the figures of all tasks that have cells, and a sentence for each that could not be drawn."""
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_task.setdefault(str(record["labels"]["task"]), []).append(record)
    found: list[OwnFigure] = []
    problems: list[str] = []
    for name in sorted(by_task.keys() & tasks.keys()):
        none: tuple[TaskFigure, ...] = ()
        declared, problem = attempt(f"The figures of task {name}", partial(_declared, tasks[name]), none)
        problems += [problem] if problem else []
        for figure in declared:
            what = f"The figure '{figure.name}' of task {name}"
            write = partial(_write, figure, problems, what)
            files, problem = drawn(what, write, by_task[name], drawings, styles)
            problems += [problem] if problem else []
            if files:
                found.append(OwnFigure(name, figure.title, figure.caption, tuple(files), figure.chart))
    return found, problems


def points_of(records: Records, name: str, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """What the cells of a task have stored in their details under `name`, as points of a figure.

    `details[name]` is a list of mappings, one per point. The data frame has a row per point, with the columns
    model, site, variant, k, width, seed and view of its SAE and those of the mappings. Cells without a result
    or without such details have none, nor do cells in which the scores `metrics` do not mean anything.
    """
    import pandas as pd

    rows = [
        {label: record["labels"][label] for label in _LABELS} | dict(point)
        for record in records
        if record["status"] == "done" and is_valid(record, metrics)
        for point in (record.get("details") or {}).get(name) or ()
    ]
    frame = pd.DataFrame(rows, columns=[*dict.fromkeys((*_LABELS, *(name for row in rows for name in row)))])
    return frame.astype(dict.fromkeys(("k", "seed"), "Int64"))


_LABELS = ("model", "site", "variant", "k", "width", "seed", "view")


def _declared(task: type[Task]) -> tuple[TaskFigure, ...]:
    """The figures that a task declares; raises ValueError for one that a report cannot take."""
    figures = tuple(task.figures())
    for each in figures:
        if not isinstance(each, TaskFigure):
            raise ValueError(f"figures() must return abench.TaskFigure, not {type(each).__name__}")
        if not _NAME.fullmatch(each.name) or each.name in _TAKEN:
            raise ValueError(
                f"a figure cannot have the name {each.name!r:.60}: choose another one of lower-case letters, "
                "digits and underscores"
            )
        if not (inspect.isfunction(each.points) and inspect.isfunction(each.draw)):
            raise ValueError(f"points and draw of the figure '{each.name}' must be functions")
    return figures


def _write(
    figure: TaskFigure,
    problems: list[str],
    what: str,
    records: Sequence[Record],
    drawings: Drawings,
    styles: Styles,
) -> list[Path]:
    """Write one figure per model and site; cells whose details cannot be read are left out of it."""
    points, problem = attempt(what, partial(figure.points, records), None)
    if points is None:
        kept = [each for each in records if attempt(what, partial(figure.points, [each]), None)[1] is None]
        points = figure.points(kept)
        problems.append(f"{problem} {len(records) - len(kept)} of {len(records)} cells are left out of it.")
    groups = list(points.groupby(["model", "site"], sort=True))
    names = figure_names([(str(model), str(site)) for (model, site), _ in groups], figure.name)
    if taken := drawings.inputs.keys() & set(names):
        raise ValueError(f"another figure has the name '{min(taken)}'")
    return [
        drawings.add(name, figure.draw, group, ", ".join(map(str, place)), styles)
        for name, (place, group) in zip(names, groups, strict=True)
    ]
