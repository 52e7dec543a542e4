"""The progress of one pass of a task: shown only if the pass takes a while, with its rate."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from abench.progress import LINE_EVERY_SECONDS, Progress, Steps

SHOWN_AFTER_SECONDS = 1.0
"""A pass that ends earlier shows nothing."""


def unseen(_done: int) -> None:
    """Discard how far a pass has come."""


@contextmanager
def pass_of(progress: Progress, title: str, total: int, unit: str) -> Iterator[Steps]:
    """Show a pass over `total` units on `progress`, from the first step after `SHOWN_AFTER_SECONDS`."""
    with ExitStack() as open_while:
        yield _Pass(open_while, progress, title, total, unit)


class _Pass:
    """Opens the bar late, so that quick passes do not flicker on a terminal or fill a log."""

    def __init__(self, open_while: ExitStack, progress: Progress, title: str, total: int, unit: str) -> None:
        self._open_while, self._progress = open_while, progress
        self._title, self._total, self._unit = title, total, unit
        self._started = time.monotonic()
        self._steps: Steps | None = None

    def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
        elapsed = time.monotonic() - self._started
        # A line about a pass that has ended is worth reading only if the pass took long.
        if elapsed < (SHOWN_AFTER_SECONDS if done < self._total else LINE_EVERY_SECONDS):
            return
        if self._steps is None:
            shown = self._progress.steps(self._title, self._total, done)
            self._steps = self._open_while.enter_context(shown)
        rate = f"{_rounded(done / elapsed)} {self._unit}/s"
        self._steps.advance_to(done, f"{rate} · {detail}" if detail else rate, left=left)


def _rounded(rate: float) -> str:
    """Three digits of a rate: `1,250`, `3.2`, `0.05`."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
