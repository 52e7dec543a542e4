"""Dividing a plan into shares that different workers can compute. No I/O.

A share is itself a plan: some SAEs of one site, with their cells. Who computes a share, and with which
other SAEs, changes no number: the batches of a stream depend on its seed alone, and scores on one SAE alone.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from abench.results.jobs import Cell, Job, SAEJob
from abench.runs.plan import Group, Plan
from abench.storage.keys import canonical_json

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """A part of a plan for one worker: SAEs of one site to train, or cells of one task and site to score."""

    number: int
    plan: Plan
    trains: bool
    """Whether its SAEs are trained (or checked, if given), and nothing is scored."""
    after: frozenset[int] = frozenset()
    """The numbers of the shares that must be finished before."""

    @property
    def site(self) -> str:
        return self.plan.groups[0].site

    @property
    def label(self) -> str:
        """What the share computes, for messages."""
        group = self.plan.groups[0]
        what = (
            f"the training of {len(group.saes)} SAEs" if self.trains else f"task {group.cells[0].task.name}"
        )
        return f"{what} at {self.site}"


def shares_of(
    plan: Plan, *, trained: Collection[str], workers: int, most: Callable[[Sequence[Job]], int]
) -> list[Share]:
    """The shares of a plan, for so many workers: trainings first, then tasks.

    `trained` are the keys of the SAEs that need no training. `most(saes)` is the number of these SAEs that a
    worker's memory holds, at least 1. A site is one share as long as there are enough sites for all workers,
    because all its SAEs share the model's forward passes.
    """
    shares: list[Share] = []

    def add(group: Group, saes: Sequence[Job], cells: Iterable[Cell], trains: bool) -> None:
        keys = {sae.key for sae in saes}
        needed = (each.number for each in shares if each.trains and keys & _keys(each))
        part = Group(group.site, tuple(saes), tuple(cells))
        after = frozenset(() if trains else needed)
        shares.append(Share(len(shares), replace(plan, groups=(part,)), trains, after))

    streams = [
        (group, saes)
        for group in plan.groups
        for saes in _by_stream(sae for sae in group.saes if sae.key not in trained)
    ]
    for group, saes in streams:
        for some in _divided(saes, workers, len(streams), most(saes)):
            add(group, some, _cells_of(group.cells, some), trains=True)
    tasks = [(group, cells) for group in plan.groups for cells in _by_task(group.cells)]
    for group, cells in tasks:
        scored = list({cell.sae.key: cell.sae for cell in cells}.values())
        for some in _divided(scored, workers, len(tasks), most(scored)):
            add(group, some, _cells_of(cells, some), trains=False)
    return shares


def _keys(share: Share) -> set[str]:
    return {sae.key for sae in share.plan.saes}


def _cells_of(cells: Iterable[Cell], saes: Sequence[Job]) -> list[Cell]:
    keys = {sae.key for sae in saes}
    return [cell for cell in cells if cell.sae.key in keys]


def _by_stream(saes: Iterable[Job]) -> list[list[Job]]:
    """The SAEs that are trained on the same batches, together; those that exist already are of one kind."""
    found: dict[str, list[Job]] = {}
    for sae in saes:
        stream = canonical_json(sae.training.of_the_stream()) if isinstance(sae, SAEJob) else ""
        found.setdefault(stream, []).append(sae)
    return list(found.values())


def _by_task(cells: Iterable[Cell]) -> list[list[Cell]]:
    # By identity: options such as mappings have no hash.
    found: dict[int, list[Cell]] = {}
    for cell in cells:
        found.setdefault(id(cell.task), []).append(cell)
    return list(found.values())


def _divided(items: Sequence[T], workers: int, units: int, most: int) -> Iterator[Sequence[T]]:
    """Nearly equal parts of one of `units` pieces of work: enough for all workers, and of `most` items."""
    parts = min(len(items), max(-(-workers // units), -(-len(items) // most)))
    for part in range(parts):
        yield items[part * len(items) // parts : (part + 1) * len(items) // parts]
