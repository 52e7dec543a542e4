"""The file of a lease: what stands in it, and what else may stand in its place."""

import json
import os
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from abench.processes import ProcessId

_MOST_BYTES = 4096
"""No lease is larger; whatever else lies in its place is not read whole."""


@dataclass(frozen=True)
class Seen:
    """What one look at a lease has shown."""

    beat_ns: int
    """The modification time, in nanoseconds since 1970 by the clock of the file system."""
    token: str | None = None
    owner: ProcessId | None = None
    broken: str | None = None
    """Why this is no lease; None for a lease, and for a file that cannot be read and so may be one."""
    is_folder: bool = False


class LeaseFile:
    """A name at which a lease may lie."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self) -> Seen | None:
        """What lies there now; None if nothing does. Raises OSError where not even that can be said."""
        try:
            place = self.path.lstat()
            if not stat.S_ISREG(place.st_mode):
                folder = stat.S_ISDIR(place.st_mode)
                return Seen(
                    place.st_mtime_ns,
                    broken="it is a folder" if folder else "it is no file",
                    is_folder=folder,
                )
            return self._read(place)
        except FileNotFoundError:
            return None

    def _read(self, place: os.stat_result) -> Seen:
        try:
            # Opening a file makes network file systems ask the server for its time anew.
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
        """Set the modification time to now if the lease with this token lies there; whether it does.

        Where the file cannot be reached at present, it counts as being there.
        """
        try:
            # Through the open file: a lease that takes this name after the check is left alone.
            with self.path.open("rb") as stream:
                content = _content(stream.read(_MOST_BYTES))
                if content is None or content[0] != token:
                    return False
                os.utime(stream.fileno() if os.utime in os.supports_fd else self.path)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def remove(self) -> None:
        """Remove whatever lies there, except what a link leads to."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def lease_text(token: str, owner: ProcessId) -> str:
    """What the file of a lease holds."""
    return json.dumps(asdict(owner) | {"token": token})


def _content(text: bytes) -> tuple[str, ProcessId] | None:
    """Token and owner; None for anything else than the text of a lease."""
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
