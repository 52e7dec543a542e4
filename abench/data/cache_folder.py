"""The folder of an activation cache: its mark, and the processes that use it.

CACHEDIR.TAG                  the mark, which also keeps the folder out of backups
users/BEGAN-TOKEN.json        one lease per process that uses the cache, and when it began
SET/set.json                  what the shards of this folder have in common: model, site, device
SET/KEY.safetensors           the activations of some rows of tokens
"""

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from abench.errors import UserError, outside_cause
from abench.storage.files import hidden_name, remove, write_text
from abench.storage.lease import Leases

MARK = "CACHEDIR.TAG"
ENDING = ".safetensors"
"""The end of the names of shards."""
SET_FILE = "set.json"
_USERS = "users"
_MARKED = "Signature: 8a477f597d28d172789f06886806bc55\n# An activation cache of abench; safe to delete.\n"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def make_folder(folder: Path) -> None:
    """Make a folder an activation cache, unless it is one.

    Raises UserError for a folder that holds something else or cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / MARK).exists():
            return
        # Another process may be creating the same cache, so that its hidden files and leases may be there.
        strange = next((each.name for each in folder.iterdir() if not _own(each.name)), None)
        if strange is not None:
            raise UserError(
                f"{folder} cannot become an activation cache because it holds other files ({strange}): "
                "choose an empty or a new folder"
            )
        _write_mark(folder)
    except OSError as error:
        if error.errno in _FULL and folder.is_dir():
            return  # what is there can be read, and writing fails with a sentence of its own
        raise UserError(
            f"{folder} cannot be an activation cache ({outside_cause(error)}): choose another folder"
        ) from error


def remove_folder(folder: Path) -> None:
    """Remove a cache unless another process uses it; what cannot be removed stays for the next user."""
    with suppress(OSError, UserError):
        if Users(folder).began_ns() is None:
            remove(folder, all_or_error=False)


def _own(name: str) -> bool:
    return name.startswith(".") or name in (MARK, _USERS)


def _write_mark(folder: Path) -> None:
    draft = hidden_name(folder / MARK)
    try:
        write_text(draft, _MARKED)
        draft.replace(folder / MARK)
    finally:
        draft.unlink(missing_ok=True)


class Users:
    """The processes that use an activation cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._leases = Leases(folder / _USERS, folder / ".users.lock")

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Count this process among the users during the block. Raises OSError and StorageError."""
        with self._leases.claim(f"{self._now_ns():020d}-{uuid.uuid4().hex}"):
            yield

    def began_ns(self) -> int | None:
        """When the first process that uses the cache began, by the file system's clock; None: none uses it.

        Removes what ended processes have left. Raises OSError and StorageError.
        """
        self._leases.clear()
        if not (self._folder / _USERS).is_dir():
            return None
        names = [each.name for each in (self._folder / _USERS).iterdir() if not each.name.startswith(".")]
        return min((int(name.partition("-")[0]) for name in names), default=None)

    def _now_ns(self) -> int:
        """The present by the file system's clock, because the clocks of hosts differ."""
        draft = hidden_name(self._folder / _USERS)
        try:
            draft.touch()
            return draft.stat().st_mtime_ns
        finally:
            draft.unlink(missing_ok=True)
