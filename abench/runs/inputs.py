"""Options that name local files: keys contain the hash of the content, because a path is not enough."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from abench.config import DataSpec
from abench.data import manuals
from abench.data.rows import FILE_ENDINGS
from abench.errors import UserError
from abench.identity import NamesPlugin
from abench.storage.content import content_hash

TEXT = "data.dataset"
"""Key path of the training text, if it is on this machine."""


def _as_path(name: str) -> Path:
    return Path(name)


@dataclass(frozen=True)
class InputFile:
    """Marks an option that may name a local file or folder: `Annotated[str | None, InputFile()] = None`.

    The content is then part of the key of every cell of the task, so a changed file is computed again. The
    option may also be a list of names; each file in it is then an entry of its own, `option[0]` for the
    first.
    """

    place: Callable[[str], Path | None] = _as_path
    """The path of the file that a name stands for; None for a name that stands for something else."""


def input_hashes(options: BaseModel) -> dict[str, str]:
    """Option -> content hash (64 hex digits), for marked options that name an existing file or folder.

    Other values, such as hub ids or mistakes, are left to the code that reads the option. Raises UserError
    for a marked option that is neither a name nor a list of names.
    """
    return {option: content_hash(path) for option, path in _places(options) if _exists(path)}


def plugin_identities(options: BaseModel) -> dict[str, str]:
    """Option -> what identifies the code of the plug-in that it names; without options that name none."""
    found = {}
    for option, field in type(options).model_fields.items():
        for marker in (each for each in field.metadata if isinstance(each, NamesPlugin)):
            if (identity := marker.identity(getattr(options, option))) is not None:
                found[option] = identity
    return found


def inputs_of(data: DataSpec, tasks: Mapping[str, BaseModel]) -> dict[str, str]:
    """Key path -> content hash, for the local files of a run: its text and its tasks' options.

    Options that name a plug-in are among them, with what identifies its code.

    Manuals are identified by the versions of the packages, with a hash.
    """
    found = {
        f"task_options.{name}.{option}": digest
        for name, task in tasks.items()
        for option, digest in (input_hashes(task) | plugin_identities(task)).items()
    }
    if data.source == "manuals":
        found[TEXT] = manuals.identity()
    elif data.source == "file" and data.dataset and _exists(data.dataset):
        found[TEXT] = content_hash(Path(data.dataset))
    return found


def missing_inputs(data: DataSpec, tasks: Mapping[str, BaseModel]) -> list[str]:
    """A sentence for each named file that does not exist, if its name can only be that of a local file.

    Without its content, keys differ, so results computed with the file are not found.
    """
    named = {
        f"task_options.{task}.{option}": str(path)
        for task, options in tasks.items()
        for option, path in _places(options)
        if _is_local(str(path))
    }
    if data.source == "file" and data.dataset:
        named[TEXT] = data.dataset
    return [
        f"{path} names '{name}', which does not exist: results computed with it are not found without it"
        for path, name in named.items()
        if not _exists(name)
    ]


def _places(options: BaseModel) -> Iterator[tuple[str, Path]]:
    """(option, path) for the names of files in the marked options; `option[1]` for the second of a list."""
    for option, field in type(options).model_fields.items():
        value = getattr(options, option)
        mark = next((each for each in field.metadata if isinstance(each, InputFile)), None)
        if mark is None or not value:
            continue
        is_list = isinstance(value, list | tuple)
        for number, name in enumerate(value if is_list else [value]):
            if not isinstance(name, str | Path):
                raise UserError(
                    f"the option {option} is an InputFile and takes a name or a list of names, not "
                    f"{value!r:.80}"
                )
            path = mark.place(str(name))
            if path is not None:
                yield f"{option}[{number}]" if is_list else option, path


def _exists(name: str | Path) -> bool:
    try:
        return Path(name).is_file() or Path(name).is_dir()
    except OSError:
        # Too long for a file name, or in a folder without read permission.
        return False


def _is_local(name: str) -> bool:
    """Whether the name can only be a file or folder; hub ids have one slash and no such extension."""
    return Path(name).suffix in FILE_ENDINGS or name.startswith(("/", "./", "../"))
