"""Progress that remembers what a run says, and does something at a step of training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from abench.progress import Silent, Steps


def interrupt() -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


class Told(Silent):
    """Remembers what is said; calls `act` at a step of training, if it is told one."""

    def __init__(self, at: int | None = None, act: Callable[[], object] = interrupt) -> None:
        self.said: list[str] = []
        self._at, self._act = at, act

    def say(self, message: str) -> None:
        self.said.append(message)

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        del total, done
        yield self if title.startswith("training") else Silent()

    def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
        if self._at is not None and done >= self._at:
            self._at = None
            self._act()
