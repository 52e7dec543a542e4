"""What a task declares: its definition, metrics, preconditions and options."""

import inspect
import sys
from collections.abc import Iterator

from abench import Metric, Task
from abench.plugins import find_tasks
from generators.fields import field_table
from generators.markdown import table


def definition(name: str) -> str:
    """Version, views and definition of a task; KeyError if there is no such task."""
    task = built_in()[name]
    module = inspect.cleandoc(sys.modules[task.__module__].__doc__ or "")
    return "\n\n".join(filter(None, [inspect.getdoc(task), module.partition("\n\n")[2], _summary(task)]))


def declared(name: str) -> str:
    """The metrics, preconditions and options of a task; KeyError if there is no such task."""
    task = built_in()[name]
    options = field_table(task, heading="option")
    set_by = (
        f"Set them with `--set task_options.{name}.OPTION=VALUE`, or under `task_options` of a run's file."
    )
    parts = [
        "## Metrics",
        table(("metric", "heading", "meaning"), map(_metric, task.metrics)),
        *_preconditions(task),
        "## Options",
        f"{set_by}\n\n{options}" if options else "The task has no options.",
    ]
    return "\n\n".join(parts)


def built_in() -> dict[str, type[Task]]:
    """The tasks that come with abench, by name."""
    return {
        name: found.value
        for name, found in sorted(find_tasks().items())
        if found.value is not None and found.source.startswith("abench.tasks")
    }


def overview(_: str = "") -> str:
    """A table of all tasks with the first sentence of their definition and their headline metrics."""
    rows = [
        (f"[`{name}`](tasks/{name}.md)", (inspect.getdoc(task) or "").splitlines()[0], _headlines(task))
        for name, task in built_in().items()
    ]
    return table(("task", "what it measures", "headline metrics"), rows)


def columns(_: str = "") -> str:
    """A table of the metrics of all tasks, in the order of their names."""
    rows = sorted(
        (f"`{metric.name}`", _heading(metric), f"[`{name}`](tasks/{name}.md)", metric.description)
        for name, task in built_in().items()
        for metric in task.metrics
    )
    return table(("metric", "heading", "task", "meaning"), rows)


def _heading(metric: Metric) -> str:
    """The heading in tables, with the direction that is better."""
    arrow = "" if metric.higher_is_better is None else (" ↑" if metric.higher_is_better else " ↓")
    return (metric.title or metric.name) + arrow


def _headlines(task: type[Task]) -> str:
    return ", ".join(_heading(metric) for metric in task.metrics if metric.headline)


def _summary(task: type[Task]) -> str:
    views = " and ".join(task.views)
    kinds = " and ".join(f"{kind} models" for kind in task.kinds)
    parts = "part of" if task.in_all else "not part of"
    return f"Version {task.version}; {kinds}; views: {views}; {parts} `--tasks all`."


def _metric(metric: Metric) -> tuple[str, str, str]:
    return f"`{metric.name}`{' (headline)' if metric.headline else ''}", _heading(metric), metric.description


def _preconditions(task: type[Task]) -> Iterator[str]:
    if not task.valid_if:
        return
    yield "## Preconditions"
    yield (
        "Scores are shown only where these measured values are at least the bound "
        "([why](../tasks.md#scores-that-mean-something))."
    )
    rows = [
        (
            f"`{each.name}`",
            each.title.rstrip(","),
            f"{each.at_least:g}",
            each.description,
            _listed(each.metrics),
        )
        for each in task.valid_if
    ]
    yield table(("value", "what is measured", "at least", "reason", "metrics"), rows)


def _listed(metrics: tuple[str, ...]) -> str:
    return ", ".join(f"`{metric}`" for metric in metrics) or "all"
