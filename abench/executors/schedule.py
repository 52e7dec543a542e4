"""Which share a worker computes next, and what happens to the shares of workers that have ended."""

from collections import Counter
from collections.abc import Iterable

from abench.executors.shares import Share

MOST_ATTEMPTS = 3
"""A share whose workers ended this many times is given up: it probably is what ends them."""


class Schedule:
    """The shares of a plan that are waiting or being computed. No I/O."""

    def __init__(self, shares: Iterable[Share]) -> None:
        self._waiting = {share.number: share for share in shares}
        self._running: dict[int, Share] = {}
        self._unfinished = set(self._waiting)
        self._ended: Counter[int] = Counter()
        self.given_up: dict[int, tuple[Share, str]] = {}
        """By number: shares that are not tried again, with the reason."""

    @property
    def is_open(self) -> bool:
        """Whether anything is waiting or being computed."""
        return bool(self._waiting or self._running)

    @property
    def wanted(self) -> int:
        """The number of workers that could compute something now."""
        return len(self._running) + len(self._ready())

    def next(self, site: str | None) -> Share | None:
        """The share for a worker whose last one was at `site`; None if there is none at present."""
        ready = self._ready()
        if not ready:
            return None
        # Trainings first, because others wait for them; then the site that the worker knows.
        share = min(ready, key=lambda each: (not each.trains, each.site != site, each.number))
        self._running[share.number] = self._waiting.pop(share.number)
        return share

    def _ready(self) -> list[Share]:
        return [share for share in self._waiting.values() if not share.after & self._unfinished]

    def finish(self, share: Share) -> None:
        """The share is computed."""
        del self._running[share.number]
        self._unfinished.discard(share.number)

    def lose(self, share: Share, reason: str) -> None:
        """The worker of the share has ended: another computes it, unless this has happened too often."""
        del self._running[share.number]
        self._ended[share.number] += 1
        if self._ended[share.number] < MOST_ATTEMPTS:
            self._waiting[share.number] = share
        else:
            self._give_up(share, reason)

    def _give_up(self, share: Share, reason: str) -> None:
        self.given_up[share.number] = (share, reason)
        for other in [each for each in self._waiting.values() if share.number in each.after]:
            del self._waiting[other.number]
