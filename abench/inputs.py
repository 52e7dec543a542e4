"""Options that name local files: what is in a file is part of every key, its path alone would not tell."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from abench.config import DataSpec
from abench.content import content_hash
from abench.errors import UserError
from abench.rows import FILE_ENDINGS

TEXT = "data.dataset"
"""Key path of the file that SAEs are trained on, where it is one."""


class InputFile:
    """Marks an option that may name a local file or folder: `Annotated[str | None, InputFile()] = None`.

    The content is then part of the key of every cell of the task, so that a changed file is computed anew.
    """


def input_hashes(options: BaseModel) -> dict[str, str]:
    """Option -> hash (64 hex digits) of what it names, for marked options that name a file or folder.

    What is neither is left to whoever reads the option: a hub id, or a mistake to be told in a sentence.
    Raises UserError for a marked option that is more than one name.
    """
    names = _names(options)
    return {option: content_hash(Path(name)) for option, name in names.items() if _exists(name)}


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


def missing_inputs(data: DataSpec, tasks: Mapping[str, BaseModel]) -> list[str]:
    """A sentence for each named file that is not there, as far as a name can only be a file's.

    Without its content the keys are others, so that results computed while it was there are not found.
    """
    named = {
        f"task_options.{task}.{option}": name
        for task, options in tasks.items()
        for option, name in _names(options).items()
        if _is_local(name)
    }
    if data.source == "file" and data.dataset:
        named[TEXT] = data.dataset
    return [
        f"{path} names '{name}', which is not there: results computed from it are not found without it"
        for path, name in named.items()
        if not _exists(name)
    ]


def _names(options: BaseModel) -> dict[str, str]:
    """What the marked options name, as far as they are given."""
    found = {}
    for option, field in type(options).model_fields.items():
        value = getattr(options, option)
        if value and any(isinstance(each, InputFile) for each in field.metadata):
            if not isinstance(value, str | Path):
                raise UserError(f"the option {option} is an InputFile, which is one name, not {value!r:.80}")
            found[option] = str(value)
    return found


def _exists(name: str) -> bool:
    try:
        return Path(name).is_file() or Path(name).is_dir()
    except OSError:
        # Too long for a file's name, or in a folder that may not be read.
        return False


def _is_local(name: str) -> bool:
    """Whether the name can only be a file's or folder's; hub ids have one slash and no such ending."""
    return Path(name).suffix in FILE_ENDINGS or name.startswith(("/", "./", "../"))
