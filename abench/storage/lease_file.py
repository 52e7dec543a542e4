"""The file of a lease: its content, and the handling of anything else in its place."""

import json
import os
import shutil
import stat
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from abench.storage.processes import ProcessId

_MOST_BYTES = 4096
"""No lease is larger; a larger file in its place is not read in full."""


@dataclass(frozen=True)
class Seen:
    """The observed state of a lease."""

    beat_ns: int
    """Modification time, in nanoseconds since 1970 by the file system's clock."""
    token: str | None = None
    owner: ProcessId | None = None
    broken: str | None = None
    """Why this is not a lease; None for a lease, and for an unreadable file, which may be one."""
    is_folder: bool = False


class LeaseFile:
    """A path where a lease may be."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self) -> Seen | None:
        """The current state at the path; None if nothing is there. Raises OSError if this is unknown."""
        try:
            place = self.path.lstat()
            if not stat.S_ISREG(place.st_mode):
                folder = stat.S_ISDIR(place.st_mode)
                return Seen(
                    place.st_mtime_ns,
                    broken="it is a folder" if folder else "it is not a file",
                    is_folder=folder,
                )
            return self._read(place)
        except FileNotFoundError:
            return None

    def _read(self, place: os.stat_result) -> Seen:
        try:
            # Opening a file makes network file systems refresh its modification time from the server.
            with self.path.open("rb") as stream:
                text, beat_ns = stream.read(_MOST_BYTES), os.fstat(stream.fileno()).st_mtime_ns
        except FileNotFoundError:
            raise
        except OSError:
            return Seen(place.st_mtime_ns)
        content = _content(text)
        if content is None:
            return Seen(beat_ns, broken="it does not hold a lease")
        token, owner = content
        return Seen(beat_ns, token, owner)

    def touch(self, token: str) -> bool:
        """Set the modification time to now if the lease with this token is there; returns whether it is.

        An unreachable file counts as being there. Raises OSError if the time cannot be set.
        """
        with ExitStack() as stack:
            try:
                stream = stack.enter_context(self.path.open("rb"))
                content = _content(stream.read(_MOST_BYTES))
            except FileNotFoundError:
                return False
            except OSError:
                return True
            if content is None or content[0] != token:
                return False
            # Via the open file, so that a lease that takes this name after the check is not touched.
            os.utime(stream.fileno() if os.utime in os.supports_fd else self.path)
            return True

    def remove(self) -> None:
        """Remove the file, link or folder at the path; the target of a link stays."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def lease_text(token: str, owner: ProcessId) -> str:
    """The content of a lease's file."""
    return json.dumps(asdict(owner) | {"token": token})


def _content(text: bytes) -> tuple[str, ProcessId] | None:
    """Token and owner; None if the text is not that of a lease."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    token, host, pid = found.get("token"), found.get("host"), found.get("pid")
    if not isinstance(token, str) or not isinstance(host, str) or type(pid) is not int or pid < 1:
        return None
    return token, ProcessId(host, pid, _text(found.get("machine")), _text(found.get("started")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
