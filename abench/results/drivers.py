"""Runs that several workers compute: each has a file in the results folder while it lasts.

    drivers/TOKEN.json      who started the run, and with which versions of packages

A worker looks for the file, and so finds out without waiting whether its folder is the one of the run.
Another run on the same folder finds there which versions are at work.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from abench.errors import UserError
from abench.results.store import Store
from abench.storage.faults import writing
from abench.storage.processes import ProcessId
from abench.storage.sealed import Damaged, read_sealed, write_sealed

_FOLDER = "drivers"
_MOST_NAMED = 4
_SECONDS_TO_APPEAR = 3.0
"""Network file systems may show a new file late."""


@contextmanager
def driving(store: Store, versions: Mapping[str, str]) -> Iterator[str]:
    """Mark the folder as worked on by a run with these versions of packages; yields the run's token.

    Raises UserError if a run with other versions is at work there, and StorageError.
    """
    token = uuid.uuid4().hex
    file = _file(store.root, token)
    with store.claim(_lease(token)):
        _refuse_others(store, versions)
        me = ProcessId.current()
        with writing(file):
            write_sealed(file, {"host": me.host, "pid": me.pid, "versions": dict(versions)})
        try:
            yield token
        finally:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def check_shared(root: Path, token: str, host: str) -> None:
    """Raise UserError unless the results folder here is the one in which the run with this token works."""
    file = _file(root, token)
    ends = time.monotonic() + _SECONDS_TO_APPEAR
    while not file.exists():
        if time.monotonic() > ends:
            what = "is not the folder of this run" if root.is_dir() else "does not exist"
            raise UserError(
                f"the results folder {root} {what} on {host}: choose one with --results on a file system "
                "that all machines of the run share, under the same path"
            )
        time.sleep(0.2)


def different_versions(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """The packages whose versions differ, as `torch 2.9 here and 2.8 there`; None if all agree."""
    names = [name for name in (*ours, *(set(theirs) - set(ours))) if ours.get(name) != theirs.get(name)]
    if not names:
        return None
    shown = [f"{n} {ours.get(n, 'none')} here and {theirs.get(n, 'none')} there" for n in names[:_MOST_NAMED]]
    more = [f"{len(names) - _MOST_NAMED} more packages"] if len(names) > _MOST_NAMED else []
    return ", ".join([*shown, *more])


def _refuse_others(store: Store, versions: Mapping[str, str]) -> None:
    for file in sorted((store.root / _FOLDER).glob("[!.]*.json")):
        if store.claimed_by(_lease(file.stem)) is None:
            with suppress(OSError):
                file.unlink(missing_ok=True)  # its process has ended
            continue
        try:
            other = read_sealed(file)
        except (Damaged, FileNotFoundError):
            continue
        if (different := different_versions(versions, other["versions"])) is not None:
            raise UserError(
                f"{other['host']}, process {other['pid']}, works on {store.root} with other versions of "
                f"packages ({different}): install the same versions, or wait until it has ended"
            )


def _file(root: Path, token: str) -> Path:
    return root / _FOLDER / f"{token}.json"


def _lease(token: str) -> str:
    return f"driver-{token}"
