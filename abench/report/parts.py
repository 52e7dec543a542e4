"""The parts of the data on which cells rest, and which cells therefore can be averaged and compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from abench.report.frame import Record
from abench.report.tables import RowKey

Basis: TypeAlias = "tuple[tuple[str, tuple[str, ...]], ...] | None"
"""Kinds of parts with the parts used; None for a record that does not name its parts."""

Bases = Mapping[tuple[RowKey, tuple[str, str]], frozenset[Basis]]
"""(row, (task, task version)) -> what its seeds rest on; only for tasks in which this differs."""


def bases_of(records: Sequence[Record], row_key: Callable[[Record], RowKey]) -> Bases:
    """What each cell of a table rests on, for the tasks in which this differs between cells."""
    differing = tasks_that_differ(records)
    found: defaultdict[Any, set[Basis]] = defaultdict(set)
    for record in records:
        task = _task(record)
        if record["status"] == "done" and task in differing:
            found[row_key(record), task].add(basis_of(record))
    return {place: frozenset(bases) for place, bases in found.items()}


def tasks_that_differ(records: Sequence[Record]) -> set[tuple[str, str]]:
    """The tasks (name, version) whose cells rest on different parts.

    A record that does not name its parts was written by an earlier version of abench with the same options,
    so alone it is no difference.
    """
    known: defaultdict[tuple[str, str], set[Basis]] = defaultdict(set)
    for record in records:
        if record["status"] == "done" and record.get("parts") is not None:
            known[_task(record)].add(basis_of(record))
    return {task for task, bases in known.items() if len(bases) > 1}


def part_notes(records: Sequence[Record]) -> Iterator[str]:
    """A note per task whose cells all rest on the same parts, some having been left out."""
    differing = tasks_that_differ(records)
    found: dict[tuple[str, str], None] = {}
    for record in records:
        if record["status"] == "done" and record.get("parts") and _task(record) not in differing:
            for text in descriptions(record):
                found[record["labels"]["task"], text] = None
    for task, text in sorted(found):
        yield f"{task} rests on {text}."


def cell_part_note(record: Record, differing: set[tuple[str, str]]) -> str | None:
    """The note on a cell whose task has cells that rest on other parts; None for any other cell."""
    if not differing or record["status"] != "done" or _task(record) not in differing:
        return None
    rests = "; ".join(descriptions(record, complete=True)) or "parts that were not recorded"
    return f"Rests on {rests}. It is neither averaged nor compared with cells that rest on other parts."


def _task(record: Record) -> tuple[str, str]:
    labels = record["labels"]
    return labels["task"], labels["task_version"]


def basis_of(record: Record) -> Basis:
    parts = record.get("parts")
    return None if parts is None else tuple((each["what"], tuple(each["used"])) for each in parts)


def descriptions(record: Record, *, complete: bool = False) -> Iterator[str]:
    """`1 of 2 data sets: a (b left out: why)` per kind of parts; `complete` includes kinds without gaps."""
    for each in record.get("parts") or ():
        used, left_out = each["used"], each["left_out"]
        if not left_out:
            if complete:
                yield f"all {len(used)} {each['what']}: {', '.join(used)}"
            continue
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for part, reason in left_out.items():
            by_reason[str(reason).rstrip(" .")].append(part)
        why = "; ".join(f"{', '.join(parts)} left out: {reason}" for reason, parts in by_reason.items())
        yield f"{len(used)} of {len({*used, *left_out})} {each['what']}: {', '.join(used)} ({why})"
