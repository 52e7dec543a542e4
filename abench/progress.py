"""What a run says while it works: bars on a terminal, plain lines elsewhere, always to stderr."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TextIO, cast

from abench.printable import printable
from abench.secrets import hidden
from abench.streams import LastingStream

LINE_EVERY_SECONDS = 10.0


class Progress(Protocol):
    """What the runner tells; the default says nothing, so that a library user hears nothing."""

    def say(self, message: str) -> None: ...

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator["Steps"]: ...


class Steps(Protocol):
    """A piece of work with a known number of steps."""

    def advance_to(self, done: int, detail: str = "") -> None: ...


class Silent:
    """Progress nobody watches."""

    def say(self, message: str) -> None:
        pass

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        yield self

    def advance_to(self, done: int, detail: str = "") -> None:
        pass


class Lines:
    """Progress for logs: one whole line at a time, no control characters."""

    def __init__(self, stream: TextIO | None = None, every: float = LINE_EVERY_SECONDS) -> None:
        self._stream = stream or lasting_stderr()
        self._every = every

    def say(self, message: str) -> None:
        print(printable(hidden(message)), file=self._stream, flush=True)

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        yield _LineSteps(self, title, total, done, self._every)


class _LineSteps:
    def __init__(self, lines: Lines, title: str, total: int, done: int, every: float) -> None:
        self._lines, self._title, self._total, self._every = lines, title, total, every
        self._first, self._started = done, time.monotonic()
        self._last = self._started

    def advance_to(self, done: int, detail: str = "") -> None:
        now = time.monotonic()
        if now - self._last < self._every and done < self._total:
            return
        self._last = now
        left = remaining_seconds(done - self._first, self._total - done, now - self._started)
        self._lines.say(_joined([f"{self._title} {done}/{self._total}", detail, f"{duration(left)} left"]))


class Bars:
    """Progress for a terminal, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=lasting_stderr())

    def say(self, message: str) -> None:
        self._console.print(printable(hidden(message)), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(printable(hidden(title)), total=total, completed=done, detail="")

            class Bar:
                def advance_to(self, done: int, detail: str = "") -> None:
                    bars.update(task, completed=done, detail=printable(hidden(detail)))

            yield Bar()


def for_stderr() -> Progress:
    """Bars if stderr is a terminal, lines otherwise, nothing if it was closed."""
    if sys.stderr is None:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


def lasting_stderr() -> TextIO:
    """stderr for progress: what cannot be written is dropped, and a reader that has gone ends the work.

    Without it an error of the log would count as one of the cell or task that reports its progress.
    """
    return cast(TextIO, LastingStream(sys.stderr))


def remaining_seconds(done: int, left: int, elapsed: float) -> float:
    """Time left at the pace so far; infinite before the first step."""
    return elapsed / done * left if done else float("inf")


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`; `?` if it is not known."""
    if seconds == float("inf"):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _joined(parts: Sequence[str]) -> str:
    return " · ".join(part for part in parts if part)
