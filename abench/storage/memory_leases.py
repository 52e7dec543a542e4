"""Leases among the threads of one process (`abench.storage.claims`)."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from abench.storage.claims import Lease, LeaseLost
from abench.storage.processes import ProcessId


class MemoryLeases:
    """Which thread works on what. They end with their process, so none of them becomes stale."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._held: dict[str, str] = {}
        """Name -> token."""
        self.notices: list[str] = []

    @contextmanager
    def claim(self, name: str) -> Iterator[Lease | None]:
        token = uuid.uuid4().hex
        with self._lock:
            taken = self._held.setdefault(name, token)
        if taken != token:
            yield None
            return
        try:
            yield MemoryLease(self, name, token)
        finally:
            with self._lock:
                if self.holds(name, token):
                    del self._held[name]

    def holder(self, name: str) -> str | None:
        me = ProcessId.current()
        return f"{me.host}, process {me.pid}" if name in self._held else None

    def holders(self) -> dict[str, str]:
        return {name: who for name in list(self._held) if (who := self.holder(name)) is not None}

    def tokens(self) -> set[str]:
        """The tokens of all leases that are held."""
        with self._lock:
            return set(self._held.values())

    def holds(self, name: str, token: str) -> bool:
        """Whether the lease with this token is the one on a piece of work."""
        with self._lock:
            return self._held.get(name) == token

    def revoke(self, name: str) -> None:
        """Take a lease away from its holder, who can then not commit; the next one may claim it."""
        with self._lock:
            self._held.pop(name, None)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """A block in which no lease changes."""
        with self._lock:
            yield


class MemoryLease:
    """A lease that a thread of this process holds."""

    def __init__(self, leases: MemoryLeases, name: str, token: str) -> None:
        self.token = token
        self._leases, self._name = leases, name

    @property
    def lost(self) -> bool:
        return not self._leases.holds(self._name, self.token)

    @contextmanager
    def commit(self) -> Iterator[None]:
        with self._leases.undisturbed():
            if self.lost:
                raise LeaseLost(f"another thread has taken over the lease on {self._name}")
            yield
