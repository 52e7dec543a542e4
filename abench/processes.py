"""Which process something belongs to, and whether that process has ended."""

import os
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessId:
    """A process among those of all hosts that share a folder."""

    host: str
    pid: int
    machine: str | None = None
    """The start of the system and the namespace in which `pid` is counted; None where that is not known.

    Containers may have the host's name and yet number their processes on their own.
    """
    started: str | None = None
    """When the process started, to tell it from a later one of its number; None where that is not known."""

    @classmethod
    def current(cls) -> "ProcessId":
        return cls(socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))

    def has_ended(self) -> bool:
        """True only if that is certain: the process was one of this machine and is not there any more."""
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
    """The start time of a running process; None if there is none of that number, or no /proc."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Fields after the command's closing parenthesis: the state, and as the 22nd of all the start time.
    fields = text.rpartition(")")[2].split()
    dead = len(fields) < 20 or fields[0] in "ZX"
    return None if dead else fields[19]


def _may_exist(pid: int) -> bool:
    """Whether a process of that number can exist, where there is no /proc to ask."""
    if sys.platform == "win32":
        return True  # os.kill would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
