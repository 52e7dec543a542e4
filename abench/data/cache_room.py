"""The size of an activation cache: how much may be written, and what is removed for it."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from abench.data.cache_folder import ENDING, Users
from abench.storage.files import remove
from abench.storage.locks import guarded

_PARTS = 64
"""A process looks at the folder again after writing this part of what the cache may hold."""
_LOOK_AGAIN_SECONDS = 60.0


class _File(NamedTuple):
    path: str
    used_ns: int
    size: int


class Room:
    """How much may be written to an activation cache.

    The files that were used longest ago are removed first. A file that a running process has used since it
    began is never removed, so that a text larger than the cache does not push out its own beginning. Each
    further process that writes at the same time may exceed the size by a 64th.
    """

    def __init__(self, folder: Path, size: int, users: Users) -> None:
        self._folder, self._size, self._users = folder, size, users
        self._allowed = 0
        self._full_until = 0.0

    def take(self, more: int) -> bool:
        """Whether `more` bytes may be written now. Raises OSError and StorageError."""
        if more > self._allowed and time.monotonic() >= self._full_until:
            self._allowed = self._made(more)
            if self._allowed < more:
                self._full_until = time.monotonic() + _LOOK_AGAIN_SECONDS
        if more > self._allowed:
            return False
        self._allowed -= more
        return True

    def used(self) -> int:
        """The size of all files in bytes. Raises OSError."""
        return sum(file.size for file in _files(self._folder))

    def _made(self, more: int) -> int:
        """The bytes that may be written, `more` or a part of the cache, after removing old files."""
        wanted = max(more, self._size // _PARTS)
        with guarded(self._folder / ".room.lock"):
            files = sorted(_files(self._folder), key=lambda file: file.used_ns)
            free = self._size - sum(file.size for file in files)
            began = self._users.began_ns() if free < wanted else None
            for file in files:
                if free >= wanted or began is None or file.used_ns >= began:
                    break
                remove(Path(file.path))
                free += file.size
        return max(0, min(free, wanted))


def _files(folder: Path) -> Iterator[_File]:
    """The shards in a cache, and those that are being written."""
    for each in _entries(folder):
        if len(each.name) == 64 and each.is_dir(follow_symlinks=False):
            for entry in _entries(Path(each)):
                # Drafts have hidden names that do not end so; one that is old was left by a killed process.
                if entry.name.endswith(ENDING) or entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield _File(entry.path, status.st_mtime_ns, status.st_size)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except FileNotFoundError:
        return []
