"""The time that training still takes, from the pace of reading activations and that of taking steps."""

import math
import time
from collections.abc import Callable

JUDGED_AFTER_SECONDS = 5.0
"""The pace is not judged before this time."""
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
        self._last = self._began = clock()

    def start(self, step: int) -> None:
        """Training begins after `step` steps."""
        self._to_read = (self._steps - step) * self._batch_size
        self._last = self._began = self._clock()

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
        """The time left after `step` steps; None before the first step of this process.

        Infinite in the first seconds: the first steps and readings also load and compile code.
        """
        if self._seconds_per_step is None:
            return None
        if step < self._steps and self._clock() - self._began < JUDGED_AFTER_SECONDS:
            return math.inf
        reading = self._to_read * (self._seconds_per_activation or 0.0)
        return reading + (self._steps - step) * self._seconds_per_step
