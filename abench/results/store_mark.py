"""`abench.json`, which marks a results folder and states the format of its files."""

import json
from collections.abc import Callable

from abench.errors import UserError
from abench.storage.backend import Backend
from abench.storage.sealed import Damaged, content_of, sealed_text

MARK = "abench.json"
FORMAT = 2
"""Version of the files in a results folder; cells' keys do not depend on it. 1: without checksums."""


def check_mark(backend: Backend, *, create: bool, name_damage: Callable[[str, str], None]) -> None:
    """Check that this is a store of results of this format; with `create`, make it one if it has no mark.

    A damaged mark is reported to `name_damage` and, with `create`, written again: the other files have their
    own checksums. Raises UserError for another store or format, and StorageError.
    """
    place, mark = backend.shown(""), backend.shown(MARK)
    try:
        _check_format(place, _format_of(backend))
    except FileNotFoundError:
        if not create:
            raise UserError(
                f"{place} is not a results folder: it has no {MARK}; `abench run` creates one"
            ) from None
        _write(backend)
    except Damaged as error:
        name_damage(MARK, f"{mark} is damaged ({error}); `abench run` writes it again")
        if create:
            _write(backend)


def _format_of(backend: Backend) -> object:
    raw = backend.read(MARK)
    try:
        return content_of(raw).get("format")
    except Damaged:
        if _is_of_format_1(raw):
            return 1
        raise


def _is_of_format_1(raw: bytes) -> bool:
    """Whether the mark is that of a folder without checksums, `{"schema": 1}`."""
    try:
        content = json.loads(raw)
    except ValueError:
        return False
    return isinstance(content, dict) and list(content) == ["schema"]


def _check_format(place: str, found: object) -> None:
    if found == 1:
        raise UserError(
            f"{place} was written by an earlier version of abench, without checksums for its files: "
            "choose another folder with --results"
        )
    if found != FORMAT:
        raise UserError(
            f"{place} was written by another version of abench (format {found}, this one has {FORMAT}): "
            "choose another folder with --results"
        )


def _write(backend: Backend) -> None:
    backend.write(MARK, sealed_text({"format": FORMAT}))
