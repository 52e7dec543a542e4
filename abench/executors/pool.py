"""The interface of a set of workers, wherever they run."""

from typing import Protocol

from abench.executors.events import Event


class Pool(Protocol):
    """Workers that compute shares. A worker is named by a text that is never used for another one."""

    def keep(self, wanted: int) -> None:
        """Start workers until there are `wanted`, as far as there is room for them; ends none."""

    def send(self, worker: str, share: bytes) -> None:
        """Let a worker that is ready compute a share (`abench.executors.worker.packed`)."""

    def title(self, worker: str) -> str:
        """A worker's name for the user."""

    def events(self, timeout: float) -> list[tuple[str, Event]]:
        """What workers have reported; waits up to `timeout` seconds for the first report.

        A worker reports Ready once and Finished after each share. Refused, Broke and Died are its last words.
        """

    def advice(self) -> str:
        """Where to read why a worker does not start: part of a sentence, or empty if nothing is written."""

    def forget(self, worker: str) -> None:
        """Release what belongs to a worker that has ended, so that `keep` replaces it."""

    def stop(self) -> None:
        """End all workers."""
