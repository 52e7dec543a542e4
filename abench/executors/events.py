"""What workers report to the process that drives them."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from abench.progress import Steps
from abench.sanitize.secrets import hidden

EVERY_SECONDS = 0.25
"""Shortest time between two reports of one bar."""


@dataclass(frozen=True)
class Ready:
    """A worker has started."""

    host: str
    pid: int
    versions: Mapping[str, str]
    """Versions of Python, abench, its source and the packages that it needs."""
    room: int | None = None
    """Memory of its device that SAEs may take, in bytes; None if it is not known."""


@dataclass(frozen=True)
class Said:
    message: str


@dataclass(frozen=True)
class Began:
    """A bar appears."""

    bar: int
    title: str
    total: int
    done: int


@dataclass(frozen=True)
class Moved:
    bar: int
    done: int
    detail: str
    left: float | None


@dataclass(frozen=True)
class Ended:
    """A bar disappears."""

    bar: int


@dataclass(frozen=True)
class Finished:
    """A share is computed."""

    tried: frozenset[str]
    """The keys on which the run has failed so far."""


@dataclass(frozen=True)
class Refused:
    """The worker cannot continue, for a reason that is not a bug."""

    sentence: str


@dataclass(frozen=True)
class Broke:
    """A bug in abench."""

    traceback: str


@dataclass(frozen=True)
class Died:
    """The worker's process has ended."""

    cause: str


Shown = Said | Began | Moved | Ended
Event = Ready | Shown | Finished | Refused | Broke | Died


class Reporter:
    """A worker's `Progress`: it sends what a driver shows."""

    def __init__(self, send: Callable[[Shown], None]) -> None:
        self._send = send
        self._numbers = itertools.count()

    def say(self, message: str) -> None:
        self._send(Said(hidden(message)))  # here, because the driver need not know this host's secrets

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        bar = next(self._numbers)
        self._send(Began(bar, hidden(title), total, done))
        try:
            yield _Bar(self._send, bar, total)
        finally:
            self._send(Ended(bar))


class _Bar:
    def __init__(self, send: Callable[[Shown], None], bar: int, total: int) -> None:
        self._send, self._bar, self._total = send, bar, total
        self._last = time.monotonic() - EVERY_SECONDS

    def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
        now = time.monotonic()
        if now - self._last >= EVERY_SECONDS or done >= self._total:
            self._last = now
            self._send(Moved(self._bar, done, hidden(detail), left))
