"""Identifying processes across hosts, and telling whether a process has ended."""

import os
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessId:
    """Identifies a process among all hosts that share a folder."""

    host: str
    pid: int
    machine: str | None = None
    """The boot id and the namespace of `pid`; None if unknown.

    Containers may share the host's name but have process ids of their own.
    """
    started: str | None = None
    """Start time of the process, which tells it from a later process with the same id; None if unknown."""

    @classmethod
    def current(cls) -> "ProcessId":
        return cls(socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))

    def has_ended(self) -> bool:
        """Whether the process has certainly ended: it ran on this machine and no longer exists."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return False
        if self.machine is None:
            # Only Linux has containers that share the host's name; hiding /proc, they can only be observed.
            return sys.platform != "linux" and not _may_exist(self.pid)
        started = _started(self.pid)
        return started != self.started if started is not None else not _may_exist(self.pid)


@cache
def _machine() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """The start time of a process, "" if it has ended; None if it is hidden or does not exist."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Fields after the command's closing parenthesis begin with the state; the start time is the 22nd of all.
    fields = text.rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]


def _may_exist(pid: int) -> bool:
    """Whether a process with this id may exist; /proc may hide those of other users, or be missing."""
    if sys.platform == "win32":
        return True  # here os.kill would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
