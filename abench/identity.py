"""What identifies the code of plug-ins in keys, so that changed code never reuses former results."""

import hashlib
import sys
from abc import ABC, abstractmethod
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from abench.discovery import executed_digest
from abench.errors import UserError

_NOT_PLUGINS = frozenset({"abench", "abc", "builtins", "pydantic", "typing"})
"""Packages whose classes plug-ins derive from; the code of abench has versions of its own in keys."""


class NamesPlugin(ABC):
    """Marks a task's option that may name a plug-in, whose code is then part of the keys of cells."""

    @abstractmethod
    def identity(self, name: str) -> str | None:
        """What identifies the code of the plug-in; None for what comes with abench."""


@lru_cache(maxsize=1024)
def code_identity(plugin: type[Any]) -> dict[str, str]:
    """The declared `version` of a plug-in, or else a hash of its code; empty for one that comes with abench.

    The code is the content of the file if the class was found in a folder (as it was executed) or is in a
    module of its own, and all Python files of the package if it is in a package. The code of classes that it
    derives from counts as well. Raises UserError if there is no version and the code is in no file.
    """
    modules = {each.__module__ for each in plugin.__mro__}
    own = sorted(name for name in modules if name.partition(".")[0] not in _NOT_PLUGINS)
    if not own:
        return {}
    version: str | None = plugin.version
    if version is not None:
        return {"version": version}
    digests = sorted({_digest(module, plugin) for module in own})
    return {"code": digests[0] if len(digests) == 1 else _hash(digests)}


def _digest(module: str, plugin: type[Any]) -> str:
    digest = module_digest(module)
    if digest is None:
        raise UserError(
            f"the code of '{plugin.name}' cannot be read because it was not loaded from a file: "
            'declare `version: ClassVar[str | None] = "1"` in it, and raise it whenever the code changes'
        )
    return digest


def module_digest(module: str) -> str | None:
    """A hash of the code that a module belongs to: its file, or its whole package; None if it has no file."""
    executed = executed_digest(module)
    if executed is not None:
        return executed
    if folders := _folders_of(module):
        return _of_package(folders)
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _folders_of(module: str) -> list[Path]:
    """The folders of the package that a module belongs to; an editable installation may spread them."""
    folders: list[Path] = []
    names = module.split(".")
    for number in range(1, len(names) + 1):
        package = sys.modules.get(".".join(names[:number]))
        for folder in map(Path, getattr(package, "__path__", ())):
            if not any(folder.is_relative_to(known) for known in folders):
                folders.append(folder)
    return folders


def _of_package(folders: list[Path]) -> str:
    """One hash of the names and contents of all Python files of a package."""
    files = [
        (file.relative_to(folder).as_posix(), file) for folder in folders for file in folder.rglob("*.py")
    ]
    parts = []
    # Files of the same name stay in the order of their folders, wherever these lie.
    for name, file in sorted(files, key=itemgetter(0)):
        parts += [name, hashlib.sha256(file.read_bytes()).hexdigest()]
    return _hash(parts)


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
