"""Hashes of the contents of files and folders, computed once per process while nothing changes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from abench.errors import UserError, outside_cause
from abench.storage.files import file_hash

_CHUNK = 1 << 22

Files = dict[str, Path]
"""Path within a folder, with slashes -> the file."""
State = tuple[tuple[str, int, int, int, int, int], ...]
"""Each file's name and metadata that change, without reading it, whenever the file changes."""

_known: dict[tuple[str, Path], tuple[State, str]] = {}
"""(kind of hash, path) -> (state, digest): a cache, because weights have gigabytes."""


def content_hash(path: Path) -> str:
    """sha256 of a file's content, or of the names and contents of all files in a folder (64 hex digits).

    Links are followed. Raises UserError if a file cannot be read or changes while it is read.
    """
    if path.is_file():
        return _once("file", path, lambda: {path.name: path}, lambda files: file_hash(*files.values()))
    return _once("folder", path, lambda: files_under(path), _of_hashes)


def folder_digest(folder: Path) -> str:
    """sha256 of the names, sizes and contents of a folder's files that are not hidden (64 hex digits).

    Hidden files are not read when a model is opened; they belong to version control and downloads. Links are
    followed. Raises UserError if a file cannot be read or changes while it is read.
    """
    return _once("visible", folder, lambda: _visible(folder), _of_contents)


def files_under(folder: Path) -> Files:
    """Every regular file in a folder, at any depth, sorted by name.

    Links are followed, including links to folders, but never in a cycle. Raises OSError.
    """
    return dict(sorted(_walked(folder, "", frozenset()), key=lambda found: found[0].split("/")))


def folder_state(folder: Path) -> State:
    """The state of a folder's visible files, which differs, without reading them, if they change.

    Raises UserError.
    """
    try:
        return _state_of(_visible(folder))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {outside_cause(error)}") from error


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Raise UserError at the end of the block if a visible file of the folder changed during it."""
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
    # The time of the last change of a file's metadata (st_ctime) cannot be set back.
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
