"""The display of `abench status --watch`: redrawn in place on a terminal, elsewhere lines for changes."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from abench.sanitize.printable import visible

if TYPE_CHECKING:
    from rich.console import Group

    from abench.runs.at_work import Work

EVERY_SECONDS = 1.0
_MOST_TIME = 0.2
"""The largest share of the time that may be spent on looking, which takes long in a large folder."""

Show = Callable[["Look"], None]


@dataclass(frozen=True)
class Look:
    """The state of a run at one moment."""

    cells: Counter[str]
    """The number of cells of each status."""
    saes: Counter[str]
    """The number of SAEs of each status."""
    works: "tuple[Work, ...]"
    code: int
    """The exit status of `abench status`."""

    @property
    def pending(self) -> int:
        """The number of cells that still have to be computed."""
        return self.cells["missing"] + self.cells["damaged"]

    def lines(self) -> list[str]:
        """The state as text: numbers, and a line for everything that a process works on."""
        return [
            f"cells: {_counts(self.cells)}",
            f"SAEs: {_counts(self.saes)}",
            *(f"{work.holder}: {work.on}: {work.does}" for work in self.works),
        ]


def watching(look: Callable[[], Look], *, is_settled: Callable[[Look], bool]) -> Look:
    """Show what `look` returns, again and again, until it is settled or Ctrl-C; returns the last look."""
    last = None
    try:
        with _display() as show:
            while True:
                started = time.monotonic()
                last = look()
                show(last)
                if is_settled(last):
                    return last
                took = time.monotonic() - started
                time.sleep(max(EVERY_SECONDS, took / _MOST_TIME))
    except KeyboardInterrupt:
        if last is None:
            raise
        return last


def _counts(numbers: Counter[str]) -> str:
    parts = ", ".join(f"{number:,} {name}" for name, number in sorted(numbers.items()) if number)
    return f"{parts} of {numbers.total():,}"


@contextmanager
def _display() -> Iterator[Show]:
    if sys.stdout is None or not sys.stdout.isatty():
        yield _changes()
        return
    from rich.console import Console
    from rich.live import Live

    # Drawn by this thread alone, so that output that cannot be written ends the command.
    with Live(console=Console(file=sys.stdout), auto_refresh=False) as live:
        yield lambda look: live.update(_drawn(look), refresh=True)


def _changes() -> Show:
    shown: set[str] = set()

    def show(look: Look) -> None:
        nonlocal shown
        lines = look.lines()
        for line in lines:
            if line not in shown:
                click.echo(visible(line))
        shown = set(lines)

    return show


def _drawn(look: Look) -> "Group":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    total = look.cells.total()
    bar = ProgressBar(total=total, completed=total - look.pending, width=60)
    return Group(bar, *(Text(visible(line), no_wrap=True, overflow="ellipsis") for line in look.lines()))
