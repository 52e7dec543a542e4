"""The outcome of a run: which cells were computed, which were there already, which failed or were skipped."""

from collections.abc import Collection
from dataclasses import dataclass, field

from abench.progress import Progress
from abench.results.store import Record, Status, Store
from abench.runs.plan import Plan


@dataclass
class Outcome:
    """The outcome of a plan's cells."""

    computed: int = 0
    cached: int = 0
    failed: list[Record] = field(default_factory=list)
    skipped: list[Record] = field(default_factory=list)
    tried: frozenset[str] = frozenset()
    """Keys of the SAEs and cells on which this run has failed; it does not try them again."""


def is_settled(status: Status) -> bool:
    """Whether a cell needs no more work: done or skipped. The next run retries failed cells."""
    return status in ("done", "skipped")


def settled(plan: Plan, store: Store) -> int:
    """The number of the plan's cells that need no more work."""
    return sum(is_settled(store.standing(cell)) for cell in plan.cells)


def outcome_of(plan: Plan, store: Store, *, cached: int, tried: Collection[str] = ()) -> Outcome:
    """The outcome of a plan whose cells have all been computed; `cached` of them were settled before."""
    outcome = Outcome(cached=cached, tried=frozenset(tried))
    for cell in plan.cells:
        status = store.standing(cell)
        if status in ("failed", "skipped") and (record := store.get(cell)) is not None:
            (outcome.failed if status == "failed" else outcome.skipped).append(record)
    outcome.computed = len(plan.cells) - cached - len(outcome.failed)
    return outcome


def report_damage(store: Store, progress: Progress) -> None:
    """Say what the store has noticed since the last call: damaged files, and lost or taken leases."""
    for sentences in (store.damaged, store.notices):
        for sentence in dict.fromkeys(sentences):
            progress.say(sentence)
        sentences.clear()
