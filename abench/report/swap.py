"""Replacing a report's folder as a whole, despite errors, kills, other processes and files of the user.

A report is built in a hidden folder next to its own, `.NAME.new-XXXXXXXX`, which contains

    alive     a lock that the writer holds until it ends
    report/   the report that is being written
    old/      during the swap: the previous report
    done/     after the swap: the files of the previous report to discard

The swap happens under a lock on the report's name. Every process that writes the report first repairs what
ended processes left, under the same lock.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from abench.errors import UserError
from abench.report.manifest import Manifest, read_manifest
from abench.storage.locks import guarded

_ALIVE, _REPORT, _OLD, _DONE = "alive", "report", "old", "done"
_NO_FILES = Manifest({}, {}, listed=False)
_AGED_SECONDS = 3600.0
"""Age from which on a draft without a lock (of an earlier version of abench) counts as abandoned."""

Check = Callable[[Manifest | None], None]
"""Raises an error if the report with this manifest must not be replaced."""


@dataclass
class Draft:
    """A report that is being written."""

    folder: Path
    """The folder for its files, initially empty."""
    old: Manifest | None = None
    """The manifest of the existing report."""
    kept: list[str] = field(default_factory=list)
    """After the swap: one sentence per changed file of the old report that is kept under a new name."""


@contextmanager
def replaced(folder: Path, check: Check = lambda _: None) -> Iterator[Draft]:
    """Yield an empty folder next to `folder`, which replaces it when the block ends without an error.

    Files that the old report did not write, or that were changed since, belong to the user and are carried
    over; if the new report needs a file's name, the file is kept as `NAME.kept.SUFFIX`. `check` is called
    with the old report's manifest before the block and again before the swap. Raises UserError if `folder` is
    something other than a report, and OSError if it cannot be written; no partial report is left then.
    """
    place = folder.resolve()  # a link to a folder elsewhere stays a link
    with _alone(place):
        old = _report_in(place, folder)
        check(old)
        work = place.with_name(f".{place.name}.new-{uuid.uuid4().hex[:8]}")
        life = ExitStack()
        try:
            work.mkdir()
            life.enter_context(guarded(work / _ALIVE))
            (work / _REPORT).mkdir()
        except BaseException:
            _discard(work, life)
            raise
    draft = Draft(work / _REPORT, old)
    try:
        yield draft
        with _alone(place):
            check(_report_in(place, folder))
            draft.kept += _swap(work, place)
            _discard(work, life)
    finally:
        _discard(work, life)  # does nothing unless there was an error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock on a report's name. The holder removes the lock's file; waiting processes notice."""
    file = folder.with_name(f".{folder.name}.lock")
    with guarded(file):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not delete open files
                file.unlink()


def _report_in(place: Path, name: Path) -> Manifest | None:
    """Repair what ended processes left, and return the manifest of the report in `place`, if there is one.

    Raises UserError, with the folder's `name`, if something other than a report is there.
    """
    if place.exists() and not place.is_dir():
        raise UserError(f"{name} is a file, not a folder: choose another name for the report")
    _mend(place)
    manifest = read_manifest(place)
    if manifest is None and place.is_dir() and any(place.iterdir()):
        raise UserError(f"{name} holds files but no report (index.html): choose another name for the report")
    return manifest


def _swap(work: Path, folder: Path) -> list[str]:
    """Replace the old report by the new one; returns sentences about files kept under a new name."""
    if not folder.exists():
        (work / _REPORT).rename(folder)
        return []
    folder.rename(work / _OLD)
    try:
        (work / _REPORT).rename(folder)
    except OSError:
        (work / _OLD).rename(folder)
        raise
    return _finish(work / _OLD, work / _DONE, folder)


def _finish(old: Path, done: Path, folder: Path) -> list[str]:
    """Carry over the user's files, then rename the old report to `done`, which marks it as discardable."""
    manifest = read_manifest(old) or _NO_FILES
    kept = []
    for entry in sorted(old.iterdir()):
        if not manifest.owns(entry):
            place = _free(folder / entry.name)
            entry.rename(place)
            if place.name != entry.name:
                kept.append(f"{folder / entry.name} was not written by a report: kept as {place.name}")
    old.rename(done)
    return kept


def _free(place: Path) -> Path:
    """The path if nothing is there, else a free path next to it."""
    wanted, number = place, 1
    while os.path.lexists(place):
        mark = ".kept" if number == 1 else f".kept-{number}"
        place = wanted.with_name(f"{wanted.stem}{mark}{wanted.suffix}")
        number += 1
    return place


def _mend(folder: Path) -> None:
    """Finish or undo swaps of ended processes; the caller holds the lock on the report's name."""
    role = re.compile(re.escape(f".{folder.name}.") + "(new|old)-[0-9a-f]{8}")
    for left in sorted(folder.parent.iterdir()):
        found = role.fullmatch(left.name)
        if found and left.is_dir():
            # Its writer may be deleting it; `mkdir` raises FileExistsError if the folder vanishes meanwhile.
            with suppress(FileNotFoundError, FileExistsError):
                _mend_one(left, folder, of_earlier=found[1] == "old")


def _mend_one(left: Path, folder: Path, *, of_earlier: bool) -> None:
    """Repair one leftover folder; `of_earlier`: it is an old report itself, as left by earlier versions."""
    if of_earlier:
        work = left.with_name(f".{folder.name}.new-{uuid.uuid4().hex[:8]}")
        work.mkdir()
        left.rename(work / _OLD)
        left = work
    with ExitStack() as life:
        if not _is_dead(left, life):
            return
        if (left / _OLD).is_dir():
            if folder.exists():
                _finish(left / _OLD, left / _DONE, folder)
            else:
                (left / _OLD).rename(folder)
    shutil.rmtree(left, ignore_errors=True)


def _is_dead(work: Path, life: ExitStack) -> bool:
    """Whether the writer of a draft has ended; if so, its lock is taken.

    Drafts get their lock under the lock on the report's name. A draft without one belongs to a process that
    was killed immediately, or to an earlier version of abench.
    """
    if not any(work.glob(f"{_ALIVE}*")):
        own = {entry.name for entry in work.iterdir()} <= {_REPORT, _OLD, _DONE}
        return own or time() - work.stat().st_mtime > _AGED_SECONDS
    try:
        life.enter_context(guarded(work / _ALIVE, wait=0))
    except UserError:
        return False
    return True


def _discard(work: Path, life: ExitStack) -> None:
    """Delete a draft, unless it still contains the old report because restoring that failed."""
    life.close()
    if not (work / _OLD).exists():
        shutil.rmtree(work, ignore_errors=True)
