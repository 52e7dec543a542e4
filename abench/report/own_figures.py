"""Figures of tasks' own (`abench.TaskFigure`): collected from the tasks, drawn from their cells."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from abench.figures import Records, TaskFigure
from abench.report.attempts import attempt, attempt_readable
from abench.report.drawings import Drawings
from abench.report.figures import figure_names
from abench.report.frame import Record
from abench.report.interactive.series import ChartMaker
from abench.report.own import Tasks, all_of, of_tasks
from abench.report.style import Styles
from abench.report.validity import is_valid
from abench.task import Task

if TYPE_CHECKING:
    import pandas as pd

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


def own_figures(
    records: Iterable[Record], tasks: Tasks, drawings: Drawings, styles: Styles
) -> tuple[list[OwnFigure], list[str]]:
    """Draw the figures of all tasks that have cells, and a sentence for each that could not be drawn."""
    found: list[OwnFigure] = []
    problems: list[str] = []
    for name, task, cells in of_tasks(records, tasks):
        none: tuple[TaskFigure, ...] = ()
        declared, problem = attempt(f"The figures of task {name}", partial(_declared, task), none)
        problems += [problem] if problem else []
        for figure in declared:
            what = f"The figure '{figure.name}' of task {name}"
            write = partial(_write, figure, problems, what)
            files, problem = drawn(what, write, cells, drawings, styles)
            problems += [problem] if problem else []
            if files:
                found.append(OwnFigure(name, figure.title, figure.caption, tuple(files), figure.chart))
    return found, problems


def drawn(
    what: str,
    write: Callable[[Sequence[Record], Drawings, Styles], list[Path]],
    records: Sequence[Record],
    drawings: Drawings,
    styles: Styles,
) -> tuple[list[Path], str | None]:
    """The figures that `write` draws and None; if it fails, no files and a sentence."""
    folder, apart = drawings.folder, drawings.folder / "figure"
    apart.mkdir()
    none: list[Path] = []
    write_apart = partial(write, records, replace(drawings, folder=apart), styles)
    files, problem = attempt(what, write_apart, none, raised=(OSError,))
    for file in sorted(apart.iterdir()):
        if problem is None:
            file.rename(folder / file.name)
        else:
            file.unlink()
    apart.rmdir()
    return [folder / file.name for file in files], problem


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
    figures = all_of(TaskFigure, "figures", task.figures())
    for each in figures:
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
    """Write one figure per model and site; sentences on its points are added to `problems`."""
    points, problem = attempt_readable(what, figure.points, records, None)
    problems += [problem] if problem is not None else []
    if points is None:
        return []
    groups = list(points.groupby(["model", "site"], sort=True))
    names = figure_names([(str(model), str(site)) for (model, site), _ in groups], figure.name)
    if taken := drawings.inputs.keys() & set(names):
        raise ValueError(f"another figure has the name '{min(taken)}'")
    return [
        drawings.add(name, figure.draw, group, ", ".join(map(str, place)), styles)
        for name, (place, group) in zip(names, groups, strict=True)
    ]
