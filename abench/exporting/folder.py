"""Writing an export's folder: whole or not at all, and never over files of someone else."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abench.errors import UserError
from abench.storage.faults import writing
from abench.storage.files import file_hash, flush, hidden_name, write_text

MARK = "abench-export.json"
"""The file that lists the others with their sha256, so that the next export may replace them."""
_FORMAT = 1
_REMEDY = "choose another folder with --out"


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `out` when the block ends without an error.

    An earlier export in its place is replaced as a whole. Raises UserError if `out` holds anything that no
    export wrote or that was changed since, and StorageError if it cannot be written.
    """
    place = out.resolve()
    _check_own(place, out)
    draft = hidden_name(place)
    with writing(out, _REMEDY):
        draft.mkdir(parents=True)
        try:
            yield draft
            _write_mark(draft)
            for file in _files(draft):
                flush(file)
            _check_own(place, out)
            _swap(draft, place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def _write_mark(folder: Path) -> None:
    files = {file.relative_to(folder).as_posix(): file_hash(file) for file in _files(folder)}
    write_text(folder / MARK, json.dumps({"abench_export": _FORMAT, "files": files}, indent=1) + "\n")


def _check_own(place: Path, name: Path) -> None:
    """Raise UserError unless `place` is absent, empty, or holds an unchanged export and nothing else."""
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"{name} is a file: {_REMEDY}")
    there = _files(place)
    if not there:
        return
    known = _marked(place)
    for file in there:
        inside = file.relative_to(place).as_posix()
        if inside == MARK and known is not None:
            continue
        if known is None or file.is_symlink() or inside not in known:
            raise UserError(f"{name} holds {inside}, which abench export did not write: {_REMEDY}")
        if file_hash(file) != known[inside]:
            raise UserError(f"{name / inside} was changed since it was exported: {_REMEDY}, or remove it")


def _marked(place: Path) -> dict[str, str] | None:
    try:
        content = json.loads((place / MARK).read_text(encoding="utf-8"))
        if content["abench_export"] == _FORMAT:
            return {str(file): str(digest) for file, digest in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # missing, damaged, or the user's own file with that name
    return None


def _swap(draft: Path, place: Path) -> None:
    if not place.exists():
        draft.rename(place)
        return
    old = hidden_name(place)
    place.rename(old)
    try:
        draft.rename(place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)
