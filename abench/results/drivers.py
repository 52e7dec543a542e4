"""Runs that several workers compute: each has a value in the store while it lasts.

    drivers/TOKEN.json      who started the run, and with which versions of packages

A worker looks for it, and so finds out without waiting whether its store is the one of the run. Another run
on the same store finds there which versions are at work.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from abench.errors import UserError
from abench.results.store import Store
from abench.storage.faults import StorageError
from abench.storage.opening import backend_at
from abench.storage.processes import ProcessId
from abench.storage.sealed import Damaged, content_of, sealed_text

_FOLDER, _SUFFIX = "drivers", ".json"
_MOST_NAMED = 4
_SECONDS_TO_APPEAR = 3.0
"""Network file systems may show a new file late."""


@contextmanager
def driving(store: Store, versions: Mapping[str, str]) -> Iterator[str]:
    """Mark the store as worked on by a run with these versions of packages; yields the run's token.

    Raises UserError if a run with other versions is at work there, and StorageError.
    """
    token = uuid.uuid4().hex
    name = _name(token)
    with store.claim(_lease(token)):
        _refuse_others(store, versions)
        me = ProcessId.current()
        content = {"host": me.host, "pid": me.pid, "versions": dict(versions)}
        store.backend.write(name, sealed_text(content))
        try:
            yield token
        finally:
            with suppress(StorageError):
                store.backend.remove(name)


def check_shared(place: str | Path, token: str, host: str) -> None:
    """Raise UserError unless the store here is the one in which the run with this token works."""
    backend, name = backend_at(place), _name(token)
    ends = time.monotonic() + _SECONDS_TO_APPEAR
    while not backend.exists(name):
        if time.monotonic() > ends:
            what = "is not the folder of this run" if backend.is_there() else "does not exist"
            raise UserError(
                f"the results folder {place} {what} on {host}: choose one with --results on a file system "
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
    for name in store.backend.names(_FOLDER, 1):
        token = name.removeprefix(f"{_FOLDER}/").removesuffix(_SUFFIX)
        if name != _name(token) or token.startswith("."):
            continue
        if store.claimed_by(_lease(token)) is None:
            with suppress(StorageError):
                store.backend.remove(name)  # its process has ended
            continue
        try:
            other = content_of(store.backend.read(name))
        except (Damaged, FileNotFoundError):
            continue
        if (different := different_versions(versions, other["versions"])) is not None:
            raise UserError(
                f"{other['host']}, process {other['pid']}, works on {store.backend.shown('')} with other "
                f"versions of packages ({different}): install the same versions, or wait until it has ended"
            )


def _name(token: str) -> str:
    return f"{_FOLDER}/{token}{_SUFFIX}"


def _lease(token: str) -> str:
    return f"driver-{token}"
