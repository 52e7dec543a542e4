"""What a store needs of the place that keeps its files: the one interface behind which that place can change.

`abench.storage.folder` implements it in a folder that processes and hosts may share, `abench.storage.memory`
within one process. `tests/test_backends.py` checks every guarantee below for each implementation.

A **name** is a path with forward slashes and without a leading one, such as `cells/M/SITE/LABEL/TASK.json`.
It has a **value** (bytes), or is a **bundle**: several values below it that are replaced together. Values of
a bundle are read like any others, as `BUNDLE/FILE`.

Guarantees:

- A reader sees a value as it was written, or the former one, or none; never a part. The same is true of a
  bundle's name, except that it may be absent for a moment while it is replaced.
- What was written under a lease is there only if the lease was still held at that moment (`Lease.commit`).
  After LeaseLost, nothing has changed.
- After `write` or `publish` has returned, every process that shares the store reads the new content, and a
  crash of the machine does not take it away.
- A process that ends at any moment leaves drafts at most. No listing contains them, and `clear` removes those
  that can no longer be committed.
- A value whose bytes changed has another stamp, except within the resolution of the store's dates.

The store does not detect damage: values carry their own checksums (`abench.storage.sealed`), or the record of
their bundle has them.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from abench.storage.claims import Claims, Lease
from abench.storage.sealed import Stamp


class Backend(Protocol):
    """A place for values and bundles, by name. Writing raises StorageError if it fails."""

    @property
    def leases(self) -> Claims:
        """The leases on pieces of work."""
        ...

    @property
    def place(self) -> str:
        """What another process, on any host, opens the same store by (`abench.storage.opening`).

        Raises UserError if no other process can.
        """
        ...

    def shown(self, name: str) -> str:
        """How users are told of a name; of the whole store if it is empty."""
        ...

    def is_there(self) -> bool:
        """Whether the place exists, with or without anything in it."""
        ...

    def is_writable(self) -> bool:
        """Whether writing is permitted."""
        ...

    # Values

    def exists(self, name: str) -> bool:
        """Whether a name has a value or is a bundle."""
        ...

    def read(self, name: str) -> bytes:
        """A value; raises FileNotFoundError, and Damaged if it is there but cannot be read."""
        ...

    def stamp(self, name: str) -> Stamp:
        """What changes whenever the value does, found without reading it.

        Raises OSError; FileNotFoundError if there is no such value.
        """
        ...

    def digest(self, name: str) -> str:
        """sha256 of a value (64 hex digits); raises OSError, FileNotFoundError if there is none."""
        ...

    def write(self, name: str, text: str, *, lease: Lease | None = None) -> None:
        """Replace a value, or whatever else is there, by a text as UTF-8.

        Secrets in it are removed. With a lease, raises LeaseLost if another process has taken over.
        """
        ...

    def remove(self, name: str, *, lease: Lease | None = None) -> None:
        """Remove the value or the bundle of this name, if there is one. As `write` with a lease."""
        ...

    def names(self, prefix: str, depth: int) -> list[str]:
        """The names with `depth` parts more than `prefix`, below it; in the order of their parts.

        Those of values and of bundles, and of what only groups them; no drafts. What may not be listed, or is
        not there, has no names.
        """
        ...

    def now_ns(self) -> int:
        """The date in nanoseconds that a value written now would have in its stamp. Raises StorageError."""
        ...

    # Bundles

    def draft(self, name: str, *, lease: Lease | None = None) -> Path:
        """An empty local folder in which the files of a bundle are written, without folders in it.

        Who does not publish it removes it.
        """
        ...

    def publish(
        self, draft: Path, name: str, *, lease: Lease | None = None, previous: str | None = None
    ) -> None:
        """Make the files of a draft the bundle of this name, and the draft vanish.

        What had the name gets the name `previous`, which must be free, or is removed. As `write` with a
        lease.
        """
        ...

    def local(self, name: str) -> AbstractContextManager[Path]:
        """A local folder with the files of a bundle, during a block; nothing may be changed in it.

        For libraries that read files. Raises FileNotFoundError if there is no such bundle.
        """
        ...

    # Everything else

    def folder(self, name: str) -> Path:
        """A local folder for files that are no values, which may be missing: reports, an activation cache.

        Processes that share the store need not share it.
        """
        ...

    def clear(self, leased: Collection[str], others: Collection[str]) -> None:
        """Remove stale leases, and drafts that can no longer be committed.

        `leased` are the names below which everything is written under leases. Drafts below `others`, and
        those of values whose names have a single part, are removed once they are a day old.
        """
        ...
