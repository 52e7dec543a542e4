"""Progress messages of a run, on stderr: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from abench.sanitize.printable import printable
from abench.sanitize.secrets import hidden
from abench.streams import LastingStream

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_EVERY_SECONDS = 10.0


class Progress(Protocol):
    """Receives the runner's messages and progress. For library users the default is `Silent`."""

    def say(self, message: str) -> None: ...

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator["Steps"]: ...


class Steps(Protocol):
    """The progress of work that has a known number of steps."""

    def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
        """Show that `done` steps are done.

        `left` is the time left in seconds, where the caller knows better than the average pace so far.
        """


class Silent:
    """Progress that prints nothing."""

    def say(self, message: str) -> None:
        pass

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        yield self

    def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
        pass


class Lines:
    """Progress for logs: whole lines without control characters."""

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

    def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
        now = time.monotonic()
        if now - self._last < self._every and done < self._total:
            return
        self._last = now
        if left is None:
            left = remaining_seconds(done - self._first, self._total - done, now - self._started)
        parts = (f"{self._title} {done:,}/{self._total:,}", detail, f"{duration(left)} left")
        self._lines.say(" · ".join(part for part in parts if part))


class Bars:
    """Progress bars for a terminal, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=lasting_stderr())
        self._display: RichProgress | None = None
        """The bars on the screen, one display for all."""

    def say(self, message: str) -> None:
        self._console.print(printable(hidden(message)), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        first, started = done, time.monotonic()
        with self._shown() as bars:
            task = bars.add_task(printable(hidden(title)), total=total, completed=done, detail="", left="")

            class Bar:
                def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
                    if left is None:
                        left = remaining_seconds(done - first, total - done, time.monotonic() - started)
                    shown = "" if left == float("inf") else duration(left)
                    bars.update(task, completed=done, detail=printable(hidden(detail)), left=shown)

            try:
                yield Bar()
            finally:
                bars.remove_task(task)

    @contextmanager
    def _shown(self) -> Iterator["RichProgress"]:
        """The display that is on the screen, or a new one: bars within bars stand below each other."""
        if self._display is not None:
            yield self._display
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", style="progress.remaining"),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        try:
            with RichProgress(*columns, console=self._console, transient=True) as self._display:
                yield self._display
        finally:
            self._display = None


def for_stderr() -> Progress:
    """Bars if stderr is a terminal, lines if it is not, `Silent` if it was closed."""
    if sys.stderr is None:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


def lasting_stderr() -> TextIO:
    """stderr for progress: text that cannot be written is dropped, and a closed reader ends the work.

    Otherwise, an error in writing the log would count as a failure of the cell or task that reports progress.
    """
    return cast(TextIO, LastingStream(sys.stderr))


def remaining_seconds(done: int, left: int, elapsed: float) -> float:
    """Time left at the average pace so far, in seconds; infinite before the first step."""
    return elapsed / done * left if done else float("inf")


def duration(seconds: float) -> str:
    """A duration as text: `8 s`, `3 min 20 s`, `2 h 05 min`; `?` for infinity."""
    if seconds == float("inf"):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
