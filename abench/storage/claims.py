"""Leases as every kind of store has them: the right to write the result of one piece of work.

`abench.storage.lease` implements them in files, for processes and hosts that share a folder;
`abench.storage.memory` for the threads of one process.
"""

from contextlib import AbstractContextManager
from typing import Protocol


class LeaseLost(Exception):  # noqa: N818 - not an error but a state, which its holder must respect
    """Another process has taken over the work; this process must not write its result."""


class Lease(Protocol):
    """The right to write the result of one piece of work until another process takes it over."""

    @property
    def token(self) -> str:
        """32 hexadecimal digits, unique to this lease; part of the names of drafts written under it."""
        ...

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost; does not ask the store."""
        ...

    def commit(self) -> AbstractContextManager[None]:
        """A block in which no other process takes the lease; keep it short, because all others wait.

        Raises LeaseLost, before the block runs, if another process has taken over, and StorageError.
        """
        ...


class Claims(Protocol):
    """The leases of a store, by the name of the work."""

    notices: list[str]
    """Sentences about leases that were taken over although their process may still be running."""

    def claim(self, name: str) -> AbstractContextManager[Lease | None]:
        """Hold and renew a lease during a block; yields None if another process holds it.

        Raises StorageError if the store cannot be written.
        """
        ...

    def holder(self, name: str) -> str | None:
        """The holder of a lease, as `host, process 123`; None if it is free. For display."""
        ...

    def holders(self) -> dict[str, str]:
        """The holders of all leases that are held, by name; for display."""
        ...
