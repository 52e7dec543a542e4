"""Leases: two processes on one results folder do not compute the same thing twice.

A lease is a file with host, process and a heartbeat (its modification time). It is stale when its process,
on this host, is gone, or when its heart has not beaten for a minute; then whoever asks next takes it over.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


@contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Hold the lease at `path` as long as the context lasts; gives False if somebody else holds it."""
    token = uuid.uuid4().hex
    if not _acquire(path, token):
        yield False
        return
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True, name=f"lease {path.name}")
    heart.start()
    try:
        yield True
    finally:
        stop.set()
        heart.join()
        _release(path, token)


def holder(path: Path) -> str | None:
    """Who holds the lease, as `host, process 123`; None if nobody does."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if _is_stale(path) else f"{content['host']}, process {content['pid']}"


def _acquire(path: Path, token: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "token": token,
    }
    draft = path.with_name(f".{path.name}.{token}")
    draft.write_text(json.dumps(content), encoding="utf-8")
    try:
        for _ in range(2):
            try:
                # A hard link appears whole or not at all, and fails if the name exists.
                os.link(draft, path)
            except FileExistsError:
                if not _is_stale(path):
                    return False
                _remove_stale(path)
            else:
                return True
        return False
    finally:
        draft.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Take a stale lease away.

    Under a lock and after another look, because of several processes that found it stale one may have
    replaced it already; the new lease must not go.
    """
    with path.with_name(".takeover").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if _is_stale(path):
            path.unlink(missing_ok=True)


def _release(path: Path, token: str) -> None:
    with suppress(OSError, ValueError):
        if json.loads(path.read_text(encoding="utf-8"))["token"] == token:
            path.unlink()


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


def _is_stale(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        silent = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    except ValueError:
        return True  # a link appears whole, so a broken file was damaged later
    if content["host"] == socket.gethostname() and _started(content["pid"]) != content["started"]:
        return True
    return silent > STALE_SECONDS


def _started(pid: int) -> str | None:
    """When a process of this host started, to tell it from a later one of its number; None if it is gone."""
    proc = Path("/proc")
    if not proc.is_dir():
        return _alive(pid)
    try:
        # Fields after the command's closing parenthesis; the 22nd of all is the start time.
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _alive(pid: int) -> str | None:
    """The best there is without /proc: whether a process of that number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "running"
    return "running"
