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
        if self.machine != _machine() or (self.machine is None and self.host != socket.gethostname()):
            return False
        if self.machine is not None:
            return _started(self.pid) != self.started
        return not _may_exist(self.pid)


@cache
def _machine() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """The start time of a running process; None if there is no such process, or no /proc."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Fields after the command's closing parenthesis begin with the state; the start time is the 22nd of all.
    fields = text.rpartition(")")[2].split()
    dead = len(fields) < 20 or fields[0] in "ZX"
    return None if dead else fields[19]


def _may_exist(pid: int) -> bool:
    """Whether a process with this id may exist, for systems without /proc."""
    if sys.platform == "win32":
        return True  # here os.kill would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
