"""A store in a folder, which processes and hosts may share (`abench.storage.backend`).

A name is a path below the folder; a bundle is a folder. Values and bundles are written under a hidden name,
flushed to disk and renamed. Leases are files (`abench.storage.lease`):

    leases/NAME.json    one for each piece of work
    lock                held while a lease changes and while a result is renamed
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path

from abench.storage.claims import Lease
from abench.storage.drafts import clear_drafts, is_draft
from abench.storage.faults import writing
from abench.storage.files import file_hash, flush, hidden_name, remove, replace_whole
from abench.storage.lease import Leases
from abench.storage.sealed import Stamp, raw_of


class FolderBackend:
    """The values below a folder, which is created when something is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Text, because creating Path objects takes a fifth of the time of reading 20,000 cells.
        self._above = str(root / "x")[:-1]

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.root / "leases", self.root / "lock")

    @property
    def place(self) -> str:
        return str(self.root.absolute())

    def shown(self, name: str) -> str:
        return self._above + name if name else str(self.root)

    def path(self, name: str) -> Path:
        """The path of a name."""
        return self.root / name

    def is_there(self) -> bool:
        return self.root.is_dir()

    def is_writable(self) -> bool:
        return os.access(self.root, os.W_OK)

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def read(self, name: str) -> bytes:
        return raw_of(self._above + name)

    def stamp(self, name: str) -> Stamp:
        return Stamp.of(self._above + name)

    def digest(self, name: str) -> str:
        return file_hash(self.path(name))

    def write(self, name: str, text: str, *, lease: Lease | None = None) -> None:
        file = self.path(name)
        with writing(file):
            replace_whole(file, text, lease=lease)

    def remove(self, name: str, *, lease: Lease | None = None) -> None:
        path = self.path(name)
        with writing(path), lease.commit() if lease else nullcontext():
            remove(path)

    def names(self, prefix: str, depth: int) -> list[str]:
        above = f"{prefix}/" if prefix else ""
        found = (above + rest for rest in _below(self.path(prefix), depth))
        return sorted(found, key=lambda name: name.split("/"))

    def now_ns(self) -> int:
        probe = hidden_name(self.path("clock"))
        with writing(probe):
            try:
                probe.touch()
                return probe.stat().st_mtime_ns
            finally:
                probe.unlink(missing_ok=True)

    def draft(self, name: str, *, lease: Lease | None = None) -> Path:
        draft = hidden_name(self.path(name), None if lease is None else lease.token)
        with writing(draft):
            remove(draft)
            draft.mkdir(parents=True)
        return draft

    def publish(
        self, draft: Path, name: str, *, lease: Lease | None = None, previous: str | None = None
    ) -> None:
        path = self.path(name)
        # Renamed out of the way, because removing it takes longer.
        away = hidden_name(path) if previous is None else self.path(previous)
        with writing(path):
            for file in draft.iterdir():
                flush(file)
            with lease.commit() if lease else nullcontext():
                if os.path.lexists(path):
                    path.rename(away)
                draft.rename(path)
        if previous is None:
            with suppress(OSError):
                remove(away, all_or_error=False)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        path = self.path(name)
        if not path.exists():
            raise FileNotFoundError(path)
        yield path

    def folder(self, name: str) -> Path:
        return self.path(name)

    def clear(self, leased: Collection[str], others: Collection[str]) -> None:
        clear_drafts(self.root, self.leases, leased, others)


def _below(folder: Path | str, depth: int) -> Iterator[str]:
    """The paths below a folder that have `depth` parts."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for entry in entries:
        if is_draft(entry.name):
            continue
        if depth == 1:
            yield entry.name
        elif entry.is_dir():
            yield from (f"{entry.name}/{rest}" for rest in _below(entry.path, depth - 1))
