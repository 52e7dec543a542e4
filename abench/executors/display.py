"""The messages and bars of all workers in one display."""

from contextlib import AbstractContextManager

from abench.executors.events import Began, Ended, Moved, Said, Shown
from abench.progress import Progress, Steps

Bar = tuple[AbstractContextManager[Steps], Steps]


class Display:
    """Shows what workers report on a `Progress`, each line with its worker."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[tuple[str, int], Bar] = {}

    def show(self, worker: str, title: str, event: Shown) -> None:
        """Show an event of a worker; `title` is its name for the user."""
        if isinstance(event, Said):
            self._progress.say(f"{title}: {event.message}")
        elif isinstance(event, Began):
            manager = self._progress.steps(f"{title}: {event.title}", event.total, event.done)
            self._bars[worker, event.bar] = (manager, manager.__enter__())
        elif isinstance(event, Moved) and (worker, event.bar) in self._bars:
            self._bars[worker, event.bar][1].advance_to(event.done, event.detail, left=event.left)
        elif isinstance(event, Ended):
            self._close((worker, event.bar))

    def forget(self, worker: str) -> None:
        """Remove the bars of a worker."""
        for place in [place for place in self._bars if place[0] == worker]:
            self._close(place)

    def clear(self) -> None:
        """Remove all bars."""
        for place in list(self._bars):
            self._close(place)

    def _close(self, place: tuple[str, int]) -> None:
        if (bar := self._bars.pop(place, None)) is not None:
            bar[0].__exit__(None, None, None)
