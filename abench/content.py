"""Hashes of the content of files and folders, read once per process as long as nothing changes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from abench.errors import UserError, outside_cause
from abench.files import file_hash

_CHUNK = 1 << 22

Files = dict[str, Path]
"""Path within a folder, with slashes -> the file."""
State = tuple[tuple[str, int, int, int, int, int], ...]
"""Of each file its name and what tells, without reading, that it is another one."""

_known: dict[tuple[str, Path], tuple[State, str]] = {}
"""What was hashed and how -> its state then, and the digest. Weights have gigabytes."""


def content_hash(path: Path) -> str:
    """sha256 of a file's content, or of the names and contents of all files in a folder (64 hex digits).

    Links are followed. Raises UserError if something cannot be read or changes while it is read.
    """
    if path.is_file():
        return _once("file", path, lambda: {path.name: path}, lambda files: file_hash(*files.values()))
    return _once("folder", path, lambda: files_under(path), _of_hashes)


def folder_digest(folder: Path) -> str:
    """sha256 of the names, sizes and contents of a folder's files that are not hidden (64 hex digits).

    Nothing reads hidden ones when a model is opened; they hold the records of version control and downloads.
    Links are followed. Raises UserError if something cannot be read or changes while it is read.
    """
    return _once("visible", folder, lambda: _visible(folder), _of_contents)


def files_under(folder: Path) -> Files:
    """Every regular file in a folder, at any depth, in the order of their names.

    Links are followed, also those to folders, but never in a circle. Raises OSError.
    """
    return dict(sorted(_walked(folder, "", frozenset()), key=lambda found: found[0].split("/")))


def folder_state(folder: Path) -> State:
    """What tells, without reading them, that a folder's visible files are others; raises UserError."""
    try:
        return _state_of(_visible(folder))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {outside_cause(error)}") from error


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Raise UserError at the end if a visible file of the folder has changed meanwhile."""
    before = folder_state(folder)
    yield
    _compare(folder, before, folder_state(folder))


def _walked(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, Path]]:
    status = folder.stat()
    place = (status.st_dev, status.st_ino)
    if place in above:
        return
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _walked(Path(entry.path), f"{prefix}{entry.name}/", above | {place})
        elif entry.is_file():
            yield prefix + entry.name, Path(entry.path)


def _visible(folder: Path) -> Files:
    return {name: file for name, file in files_under(folder).items() if "/." not in f"/{name}"}


def _state_of(files: Files) -> State:
    # The time of the last change of a file's record (st_ctime) cannot be set back.
    statuses = ((name, file.stat()) for name, file in files.items())
    return tuple((n, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_dev, s.st_ino) for n, s in statuses)


def _compare(place: Path, before: State, after: State) -> None:
    if before == after:
        return
    names = sorted({each[0] for each in set(before) ^ set(after)})
    raise UserError(f"{place} changed while it was read ({names[0]}): run the same command again")


def _once(how: str, path: Path, find: Callable[[], Files], digest: Callable[[Files], str]) -> str:
    try:
        files = find()
        state = _state_of(files)
        known = _known.get((how, path.resolve()))
        if known is not None and known[0] == state:
            return known[1]
        result = digest(files)
        _compare(path, state, _state_of(find()))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {outside_cause(error)}") from error
    _known[how, path.resolve()] = (state, result)
    return result


def _of_hashes(files: Files) -> str:
    digest = hashlib.sha256()
    for name, file in files.items():
        digest.update(f"{name}\0{file_hash(file)}\0".encode())
    return digest.hexdigest()


def _of_contents(files: Files) -> str:
    digest = hashlib.sha256()
    for name, file in files.items():
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
