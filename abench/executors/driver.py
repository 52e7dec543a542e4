"""Driving workers: shares go to those that are ready, and back to the others if a worker ends.

The driver computes nothing itself. All results are in the results folder, so a driver that is killed and
started again continues where the workers were.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from abench.errors import UserError
from abench.executors.display import Display
from abench.executors.events import Broke, Died, Event, Finished, Ready, Refused
from abench.executors.pool import Pool
from abench.executors.schedule import Schedule
from abench.executors.shares import Share, shares_of
from abench.executors.worker import facts, packed, versions_complaint
from abench.progress import Progress, Steps
from abench.results.drivers import driving
from abench.results.jobs import Job
from abench.results.store import Store
from abench.runs.activation_caching import ActivationCaching
from abench.runs.outcome import Outcome, is_settled, outcome_of, report_damage, settled
from abench.runs.plan import Group, Plan
from abench.runs.plan_memory import saes_bytes

WAIT_SECONDS = 0.5
SECONDS_TO_START = 60.0
"""After which a user is told that no worker has started yet."""
MOST_FAILED_STARTS = 3


def drive(
    plan: Plan, store: Store, progress: Progress, *, workers: int, pool_of: Callable[[str], Pool]
) -> Outcome:
    """Compute a plan by about `workers` workers; `pool_of(token)` returns them, not yet started.

    Raises UserError for what a worker cannot use, and if workers end again and again.
    """
    store.clear_leftovers()
    cached, tried = settled(plan, store), set[str]()
    report_damage(store, progress)
    rest = remaining(plan, store, tried)
    if rest.groups:
        store.check_writable()
        with (
            ActivationCaching.of_run(plan, store, progress),
            driving(store, facts()) as token,
            closing(_Drive(plan, store, progress, pool_of(token))) as drive,
        ):
            while rest.groups:
                drive.compute(rest, workers, tried)
                before, rest = rest, remaining(plan, store, tried)
                report_damage(store, progress)
                if len(rest.cells) == len(before.cells) and len(rest.saes) == len(before.saes):
                    raise UserError(
                        f"{len(rest.cells)} cells are still missing after all workers have finished: run "
                        "the same command again"
                    )
    return outcome_of(plan, store, cached=cached, tried=tried)


def remaining(plan: Plan, store: Store, tried: Collection[str]) -> Plan:
    """The part of a plan that still has to be computed; without groups if there is none."""
    groups = []
    for group in plan.groups:
        cells = [c for c in group.cells if c.key not in tried and not is_settled(store.standing(c))]
        keys = {cell.sae.key for cell in cells}
        saes = [sae for sae in group.saes if sae.key in keys or _must_be_mended(sae, store, tried)]
        if saes:
            groups.append(Group(group.site, tuple(saes), tuple(cells)))
    return replace(plan, groups=tuple(groups))


def _must_be_mended(sae: Job, store: Store, tried: Collection[str]) -> bool:
    return sae.key not in tried and store.sae_standing(sae) == "damaged"


class _Drive:
    def __init__(self, plan: Plan, store: Store, progress: Progress, pool: Pool) -> None:
        self._plan, self._store, self._progress, self._pool = plan, store, progress, pool
        self._display = Display(progress)
        self._idle: dict[str, str | None] = {}
        """Workers that wait for a share, and the sites of their last ones."""
        self._busy: dict[str, Share] = {}
        self._memory: list[int] = []
        """Memory of the workers' devices that SAEs may take, in bytes."""
        self._failed_starts = 0

    def close(self) -> None:
        """End the workers."""
        self._display.clear()
        self._pool.stop()

    def compute(self, rest: Plan, workers: int, tried: set[str]) -> None:
        """Compute the remaining part of the plan; adds the keys on which the run fails to `tried`."""
        self._wait_for_first()
        trained = {sae.key for sae in rest.saes if self._store.sae_standing(sae) == "done"}
        schedule = Schedule(shares_of(rest, trained=trained, workers=workers, most=self._most))
        done = len(self._plan.cells) - len(rest.cells)
        with ExitStack() as stack:
            bar = stack.enter_context(self._progress.steps("cells", len(self._plan.cells), done))
            while schedule.is_open:
                self._pool.keep(schedule.wanted)
                self._hand_out(schedule, tried)
                for worker, event in self._pool.events(WAIT_SECONDS):
                    done += self._handle(worker, event, schedule, tried)
                self._advance(bar, done)
        for share, reason in schedule.given_up.values():
            raise UserError(
                f"workers ended again and again during {share.label} ({reason}); everything else is "
                "computed: run the same command again to resume"
            )

    def _advance(self, bar: Steps, done: int) -> None:
        at_work = len(self._busy)
        bar.advance_to(done, f"{at_work} {'worker' if at_work == 1 else 'workers'}")

    def _wait_for_first(self) -> None:
        """Wait for a worker: what a share may hold depends on the memory of its device."""
        patience_ends = time.monotonic() + SECONDS_TO_START
        while not self._idle:
            self._pool.keep(1)
            for worker, event in self._pool.events(WAIT_SECONDS):
                self._handle(worker, event, Schedule(()), set())
            if not self._idle and time.monotonic() > patience_ends:
                waited = f"no worker has started after {SECONDS_TO_START:.0f} s: still waiting"
                self._progress.say(waited + self._pool.advice())
                patience_ends = math.inf

    def _most(self, saes: Sequence[Job]) -> int:
        if not self._memory:
            return len(saes)
        each = saes_bytes(saes) // len(saes)
        return max(1, min(self._memory) // max(1, each))

    def _hand_out(self, schedule: Schedule, tried: Collection[str]) -> None:
        for worker, site in list(self._idle.items()):
            share = schedule.next(site)
            if share is None:
                return
            self._pool.send(worker, packed(share, tried))
            self._busy[worker] = share
            del self._idle[worker]

    def _handle(self, worker: str, event: Event, schedule: Schedule, tried: set[str]) -> int:
        """Take notice of an event; returns the number of cells that it settles."""
        title = self._pool.title(worker)
        if isinstance(event, Ready):
            self._welcome(worker, event)
        elif isinstance(event, Finished):
            share = self._busy.pop(worker)
            self._idle[worker] = share.site
            schedule.finish(share)
            tried |= event.tried
            return 0 if share.trains else len(share.plan.cells)
        elif isinstance(event, Refused):
            raise UserError(f"{title}: {event.sentence}")
        elif isinstance(event, Broke):
            raise RuntimeError(f"{title} failed:\n{event.traceback}")
        elif isinstance(event, Died):
            self._lose(worker, title, event.cause, schedule)
        else:
            self._display.show(worker, title, event)
        return 0

    def _welcome(self, worker: str, event: Ready) -> None:
        complaint = versions_complaint(event.host, event.versions)
        if complaint is not None:
            raise UserError(complaint)
        self._idle[worker] = None
        self._failed_starts = 0
        if event.room is not None:
            self._memory.append(event.room)

    def _lose(self, worker: str, title: str, cause: str, schedule: Schedule) -> None:
        self._display.forget(worker)
        self._pool.forget(worker)
        self._idle.pop(worker, None)
        share = self._busy.pop(worker, None)
        if share is not None:
            self._progress.say(f"{title} has ended ({cause}): others continue {share.label}")
            schedule.lose(share, cause)
            return
        self._failed_starts += 1
        if self._failed_starts >= MOST_FAILED_STARTS:
            raise UserError(f"workers end before they have started to compute: {title}: {cause}")
