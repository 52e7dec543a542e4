"""RAVEL's prompts from the user's own data: a folder with RAVEL's files, or one table of prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abench import UserError, read_file

from .prompts import Prompt, content_of, folder_prompts, parts_of

_TEMPLATES = "_attribute_to_prompts.json"
_KIND = "entity"
"""The kind of all entities in a table without the column `kind`."""
_COLUMNS = ("entity", "attribute", "prompt", "label")
_GAP = "%s"


def attributes_in(path: Path) -> dict[str, tuple[str, ...]]:
    """Kind of entity -> its attributes, in the order of the folder's files or of the table's rows.

    Raises UserError if the path does not exist, for files that cannot be read, and for a kind with fewer than
    two attributes: a single one has none from which it could be isolated.
    """
    found = _in_folder(path) if path.is_dir() else _in_table(path)
    for kind, names in found.items():
        if len(names) < 2:
            raise UserError(
                f"ravel: {path} has {len(names)} attribute of the kind '{kind}'; at least two are needed"
            )
    return found


def own_prompts(path: Path, kind: str, attributes: tuple[str, ...]) -> list[Prompt]:
    """The prompts about one kind of entity; raises UserError as `attributes_in` does."""
    if path.is_dir():
        return folder_prompts(path, kind, attributes)
    known = attributes_in(path).get(kind)
    if known is None:
        raise UserError(f"ravel: {path} has no entities of the kind '{kind}'")
    for name in attributes:
        if name not in known:
            raise UserError(f"ravel: {path} has no attribute '{name}' of '{kind}'; it has {', '.join(known)}")
    return [each for each in _table(path) if each.kind == kind and each.attribute in attributes]


def _in_folder(folder: Path) -> dict[str, tuple[str, ...]]:
    files = sorted(folder.glob(f"ravel_*{_TEMPLATES}"))
    if not files:
        raise UserError(f"ravel: {folder} has no file ravel_KIND{_TEMPLATES}")
    kinds = (file.name.removeprefix("ravel_").removesuffix(_TEMPLATES) for file in files)
    return {kind: tuple(content_of(file)) for kind, file in zip(kinds, files, strict=True)}


def _in_table(path: Path) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for prompt in _table(path):
        found.setdefault(prompt.kind, {})[prompt.attribute] = None
    if not found:
        raise UserError(f"ravel: {path} has no rows")
    return {kind: tuple(names) for kind, names in found.items()}


def _table(path: Path) -> list[Prompt]:
    try:
        rows = enumerate(read_file(path), 1)
        return [_prompt(path, row, number) for number, row in rows]
    except UserError as error:
        raise UserError(f"ravel: {str(error).removeprefix('ravel: ')}") from error


def _prompt(path: Path, row: Mapping[str, Any], number: int) -> Prompt:
    entity, attribute, template, label = (_text(path, row, column, number) for column in _COLUMNS)
    kind = _text(path, row, "kind", number) if "kind" in row else _KIND
    if template.count(_GAP) != 1:
        raise UserError(
            f"{path}: row {number} must have {_GAP} exactly once in column 'prompt', for the entity: "
            f"{template!r:.80}"
        )
    return Prompt(kind, attribute, *parts_of(template, entity, _GAP), label)


def _text(path: Path, row: Mapping[str, Any], column: str, number: int) -> str:
    if column not in row:
        raise UserError(f"{path}: row {number} has no column '{column}'; it has {', '.join(map(str, row))}")
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        what = "is empty" if value is None or value == "" else f"has {value!r:.80}"
        raise UserError(f"{path}: row {number} {what} in column '{column}': text is needed")
    return value
