"""The metrics of each table, and their column names."""

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from abench.report.frame import Record
from abench.report.tables import Column, ColumnKey

Metric = Mapping[str, Any]
"""A metric as its task declares it, in a record."""

PAPER_TITLES = {
    "unlearning": "Unlearning",
    "absorption": "Absorption",
    "scr": "SCR",
    "tpp": "TPP",
    "ravel": "RAVEL",
    "sparse_probing": "Sparse probing",
}
"""The tasks of the paper's Table 3 in its order; other tasks that declare a metric for it follow by name."""


def headline_columns(records: Iterable[Record]) -> tuple[Column, ...]:
    """The headline metrics of all tasks: `core` first, then by task; within a task in declared order."""
    found = _metrics(records, lambda metric: bool(metric["headline"]))
    several = _in_versions(found)
    ordered = sorted(found, key=lambda key: (key.task != "core", key.task, key.task_version))
    return tuple(_headline(key, found[key], _label(key, key.task, several)) for key in ordered)


def paper_columns(records: Iterable[Record]) -> tuple[Column, ...]:
    """The metric of each task that declares a place in the paper's table (`abench.Metric.paper`)."""
    # Cells of earlier versions of abench lack the entry.
    declared = _metrics(records, lambda metric: metric.get("paper") is not None)
    firsts = {key[:2]: key for key in reversed(declared)}
    found = {key: declared[key] for key in firsts.values()}
    several = _in_versions(found)
    order = list(PAPER_TITLES)

    def place(key: ColumnKey) -> tuple[int, str, str]:
        return (order.index(key.task) if key.task in order else len(order), key.task, key.task_version)

    ordered = sorted(found, key=place)
    titles = {key: PAPER_TITLES.get(key.task, key.task) for key in ordered}
    return tuple(_paper(key, found[key], _label(key, titles[key], several)) for key in ordered)


def by_task(columns: Iterable[Column]) -> list[tuple[Column, ...]]:
    """The columns, grouped by task and task version."""
    return [tuple(group) for _, group in groupby(columns, key=lambda column: column.key[:2])]


def _metrics(records: Iterable[Record], wanted: Callable[[Metric], bool]) -> dict[ColumnKey, Metric]:
    found: dict[ColumnKey, Metric] = {}
    # Cells of one task mostly share one list of metrics, which is processed once.
    seen: set[tuple[str, str, int]] = set()
    for record in records:
        labels = record["labels"]
        place = (labels["task"], labels["task_version"], id(record["metrics"]))
        if place not in seen:
            seen.add(place)
            for metric in filter(wanted, record["metrics"]):
                found.setdefault(ColumnKey(*place[:2], metric["name"]), metric)
    return found


def _in_versions(keys: Iterable[ColumnKey]) -> set[str]:
    """The tasks with more than one version."""
    versions = {(key.task, key.task_version) for key in keys}
    return {task for task, _ in versions if sum(other == task for other, _ in versions) > 1}


def _label(key: ColumnKey, name: str, several: set[str]) -> str:
    return f"{name} v{key.task_version}" if key.task in several else name


def _headline(key: ColumnKey, metric: Metric, label: str) -> Column:
    return Column(
        *key, label, metric["title"] or metric["name"], metric["description"], metric["higher_is_better"]
    )


def _paper(key: ColumnKey, metric: Metric, label: str) -> Column:
    higher, complement = metric["higher_is_better"], metric["paper"] == "1 - score"
    if complement and higher is not None:
        higher = not higher
    return Column(*key, label, "1 − score" if complement else "", metric["description"], higher, complement)
