"""`abench.json`, which marks a results folder and states the format of its files."""

import json
from collections.abc import Callable
from pathlib import Path

from abench.errors import UserError
from abench.storage.faults import writing
from abench.storage.sealed import Damaged, read_sealed, write_sealed

MARK = "abench.json"
FORMAT = 2
"""Version of the files in a results folder; cells' keys do not depend on it. 1: without checksums."""


def check_mark(root: Path, *, create: bool, name_damage: Callable[[Path, str], None]) -> None:
    """Check that `root` is a results folder of this format; with `create`, make it one if it has no mark.

    A damaged mark is reported to `name_damage` and, with `create`, written again: the other files have their
    own checksums. Raises UserError for another folder or format, and StorageError.
    """
    mark = root / MARK
    try:
        _check_format(root, _format_of(mark))
    except FileNotFoundError:
        if not create:
            raise UserError(
                f"{root} is not a results folder: it has no {MARK}; `abench run` creates one"
            ) from None
        _write(root)
    except Damaged as error:
        name_damage(mark, f"{mark} is damaged ({error}); `abench run` writes it again")
        if create:
            _write(root)


def _format_of(mark: Path) -> object:
    try:
        return read_sealed(mark).get("format")
    except Damaged:
        if _is_of_format_1(mark):
            return 1
        raise


def _is_of_format_1(mark: Path) -> bool:
    """Whether the mark is that of a folder without checksums, `{"schema": 1}`."""
    try:
        content = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and list(content) == ["schema"]


def _check_format(root: Path, found: object) -> None:
    if found == 1:
        raise UserError(
            f"{root} was written by an earlier version of abench, without checksums for its files: "
            "choose another folder with --results"
        )
    if found != FORMAT:
        raise UserError(
            f"{root} was written by another version of abench (format {found}, this one has {FORMAT}): "
            "choose another folder with --results"
        )


def _write(root: Path) -> None:
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        write_sealed(root / MARK, {"format": FORMAT})
