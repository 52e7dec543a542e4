"""Options that name local files: what is in a file is part of every key, its path alone would not tell."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from abench.config import DataSpec
from abench.files import file_hash

TEXT = "data.dataset"
"""Key path of the file that SAEs are trained on, where it is one."""


class InputFile:
    """Marks an option that may name a local file or folder: `Annotated[str | None, InputFile()] = None`.

    The content is then part of the key of every cell of the task, so that a changed file is computed anew.
    """


def input_hashes(options: BaseModel) -> dict[str, str]:
    """Option -> hash (64 hex digits) of what it names, for marked options that name a file or folder.

    What is neither is left to whoever reads the option: a hub id, or a mistake to be told in a sentence.
    """
    values = {
        name: getattr(options, name)
        for name, field in type(options).model_fields.items()
        if any(isinstance(each, InputFile) for each in field.metadata)
    }
    return {name: content_hash(Path(value)) for name, value in values.items() if value and _exists(value)}


def inputs_of(data: DataSpec, tasks: Mapping[str, BaseModel]) -> dict[str, str]:
    """The same for a run, by key path of its configuration: of its text and of its tasks' options."""
    found = {
        f"task_options.{name}.{option}": digest
        for name, task in tasks.items()
        for option, digest in input_hashes(task).items()
    }
    if data.source == "file" and data.dataset and _exists(data.dataset):
        found[TEXT] = content_hash(Path(data.dataset))
    return found


def content_hash(path: Path) -> str:
    """sha256 of a file's content, or of the names and contents of all files in a folder."""
    if path.is_file():
        return file_hash(path)
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\0".encode())
    return digest.hexdigest()


def _exists(name: str) -> bool:
    return Path(name).is_file() or Path(name).is_dir()
