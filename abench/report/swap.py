"""Replace a report's folder as a whole, whatever happens: errors, kills, other processes, files of the user.

A report is built in a hidden folder beside its own, `.NAME.new-XXXXXXXX`, which holds

    alive     a lock that its writer holds as long as it lives
    report/   the report that is being written
    old/      during the swap: the report that was there before
    done/     after it: what of that report is thrown away

The swap itself happens under a lock on the report's name. Every process that writes the report mends first
what dead ones left, under the same lock.
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
from abench.locks import guarded
from abench.report.manifest import Manifest, read_manifest

_ALIVE, _REPORT, _OLD, _DONE = "alive", "report", "old", "done"
_NO_FILES = Manifest({}, {}, listed=False)
_AGED_SECONDS = 3600.0
"""From this age on, a draft of an abench that left no lock in it counts as left behind."""

Check = Callable[[Manifest | None], None]
"""Raises an error if the report with this manifest must not be replaced."""


@dataclass
class Draft:
    """A report that is being written."""

    folder: Path
    """Where its files go: empty at first."""
    old: Manifest | None = None
    """The manifest of the report that is there."""
    kept: list[str] = field(default_factory=list)
    """After the swap: a sentence for each file of the old report that somebody had changed."""


@contextmanager
def replaced(folder: Path, check: Check = lambda _: None) -> Iterator[Draft]:
    """Yields an empty folder beside `folder`; takes its place when the block ends without an error.

    What the old report did not write, or what was changed since, belongs to the user and is carried over; a
    file whose name the new report needs is kept as `NAME.kept.SUFFIX`. `check` is called with the old
    report's manifest before the block and again before the swap. Raises UserError if `folder` is something
    other than a report, and OSError if it cannot be written; nothing half-written is left then.
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
        _discard(work, life)  # nothing is left to be done unless there was an error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The lock on a report's name. Its file goes with the one who holds it: those who wait notice."""
    file = folder.with_name(f".{folder.name}.lock")
    with guarded(file):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps a file that is open
                file.unlink()


def _report_in(place: Path, name: Path) -> Manifest | None:
    """Mend what dead processes left, then the manifest of the report in `place`; None if none is there.

    Raises UserError, which calls the folder `name`, if something other than a report is there.
    """
    if place.exists() and not place.is_dir():
        raise UserError(f"{name} is a file, not a folder: choose another name for the report")
    _mend(place)
    manifest = read_manifest(place)
    if manifest is None and place.is_dir() and any(place.iterdir()):
        raise UserError(f"{name} holds files but no report (index.html): choose another name for the report")
    return manifest


def _swap(work: Path, folder: Path) -> list[str]:
    """Put the report in the place of the old one, which loses what it wrote itself."""
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
    """Carry over what is the user's; what is left may be thrown away, which the new name says."""
    manifest = read_manifest(old) or _NO_FILES
    kept = []
    for entry in sorted(old.iterdir()):
        if not manifest.owns(entry):
            place = _free(folder / entry.name)
            entry.rename(place)
            if place.name != entry.name:
                kept.append(f"{folder / entry.name} was not as a report had written it: kept as {place.name}")
    old.rename(done)
    return kept


def _free(place: Path) -> Path:
    """The place if nothing is there, otherwise one beside it with a name of its own."""
    wanted, number = place, 1
    while os.path.lexists(place):
        mark = ".kept" if number == 1 else f".kept-{number}"
        place = wanted.with_name(f"{wanted.stem}{mark}{wanted.suffix}")
        number += 1
    return place


def _mend(folder: Path) -> None:
    """Finish or undo what dead processes left of their swaps; the lock on the report's name is held."""
    role = re.compile(re.escape(f".{folder.name}.") + "(new|old)-[0-9a-f]{8}")
    for left in sorted(folder.parent.iterdir()):
        found = role.fullmatch(left.name)
        if found and left.is_dir():
            # Its writer may be throwing it away; a folder that goes while `mkdir` looks is a file to it.
            with suppress(FileNotFoundError, FileExistsError):
                _mend_one(left, folder, of_earlier=found[1] == "old")


def _mend_one(left: Path, folder: Path, *, of_earlier: bool) -> None:
    """`of_earlier`: the folder is an old report by itself, as earlier versions left it."""
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
    """Whether the writer of a draft is gone; its lock is taken then.

    Drafts get their lock under the lock on the report's name, so one without belongs to a process that was
    killed at once, or to a version of abench that had none.
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
    """Throw a draft away. The old report is not in it any more, unless even putting it back failed."""
    life.close()
    if not (work / _OLD).exists():
        shutil.rmtree(work, ignore_errors=True)
