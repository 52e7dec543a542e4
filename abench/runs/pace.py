"""The time that training still takes, from the pace of reading activations and that of taking steps."""

import time
from collections.abc import Callable

_REMEMBERED = 0.9
"""Weight of all earlier steps against the latest one, so that the pace follows that of the machine."""


class Pace:
    """Estimates the time left.

    The model reads activations for many steps at once, so the pace of the steps alone would promise far too
    little between two readings, and far too much after the first step.
    """

    def __init__(self, steps: int, batch_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._batch_size, self._clock = steps, batch_size, clock
        self._to_read = 0
        """Activations for the steps that nothing has been read for yet."""
        self._seconds_per_activation: float | None = None
        self._seconds_per_step: float | None = None
        self._last = clock()

    def start(self, step: int) -> None:
        """Training begins after `step` steps."""
        self._to_read = (self._steps - step) * self._batch_size
        self._last = self._clock()

    def has_read(self, activations: int, seconds: float) -> None:
        """A number of activations was read in so many seconds."""
        self._to_read = max(0, self._to_read - activations)
        if activations:
            self._seconds_per_activation = seconds / activations
        self._last = self._clock()

    def has_stepped(self) -> None:
        """All SAEs took a step, which began when the last step or the last reading ended."""
        now = self._clock()
        took, before = now - self._last, self._seconds_per_step
        self._seconds_per_step = took if before is None else _REMEMBERED * before + (1 - _REMEMBERED) * took
        self._last = now

    def seconds_left(self, step: int) -> float | None:
        """The time left after `step` steps; None before the first step of this process."""
        if self._seconds_per_step is None:
            return None
        reading = self._to_read * (self._seconds_per_activation or 0.0)
        return reading + (self._steps - step) * self._seconds_per_step
