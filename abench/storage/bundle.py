"""One bundle of a store: several files that are replaced together, such as an SAE or a checkpoint."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from abench.storage.backend import Backend
from abench.storage.claims import Lease


@dataclass(frozen=True)
class Bundle:
    """Where a bundle is or will be. Its text is how users are told of it."""

    backend: Backend
    name: str

    def __str__(self) -> str:
        return self.backend.shown(self.name)

    def file(self, name: str) -> str:
        """The name in the store of one of its files."""
        return f"{self.name}/{name}" if self.name else name

    def shown(self, file: str) -> str:
        """How users are told of one of its files."""
        return self.backend.shown(self.file(file))

    def read(self, file: str) -> bytes:
        """One of its files; raises FileNotFoundError and Damaged (`Backend.read`)."""
        return self.backend.read(self.file(file))

    def has(self, file: str) -> bool:
        """Whether one of its files is there."""
        return self.backend.exists(self.file(file))

    def exists(self) -> bool:
        return self.backend.exists(self.name)

    def beside(self, role: str) -> "Bundle":
        """The hidden bundle next to this one that has a role for it, such as its predecessor."""
        above, _, last = self.name.rpartition("/")
        return Bundle(self.backend, f"{above}/.{last}.{role}" if above else f".{last}.{role}")

    def local(self) -> AbstractContextManager[Path]:
        """A local folder with its files; raises FileNotFoundError (`Backend.local`)."""
        return self.backend.local(self.name)

    def draft(self, lease: Lease | None) -> Path:
        """An empty local folder for its next files (`Backend.draft`). Raises StorageError."""
        return self.backend.draft(self.name, lease=lease)

    def publish(self, draft: Path, lease: Lease | None, *, previous: "Bundle | None" = None) -> None:
        """Make the files of a draft its own (`Backend.publish`). Raises LeaseLost and StorageError."""
        name = None if previous is None else previous.name
        self.backend.publish(draft, self.name, lease=lease, previous=name)

    def remove(self, lease: Lease | None) -> None:
        """Remove it, if it is there. Raises LeaseLost and StorageError."""
        self.backend.remove(self.name, lease=lease)
