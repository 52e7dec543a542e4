"""Finding plug-ins of any kind: classes in installed packages (entry points), then in folders of files.

Each module is imported separately. A module that cannot be imported and a class with an invalid declaration
are reported and do not affect others.
"""

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from inspect import getdoc, isabstract
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from abench.errors import UserError, did_you_mean, short
from abench.names import name_problem
from abench.sanitize.printable import visible

T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """A plug-in, a module that cannot be imported, or a plug-in with an invalid declaration."""

    name: str
    source: str
    """The module or file that it comes from."""
    value: T | None
    """None if it cannot be used."""
    error: str = ""
    """The traceback of the import, if it failed."""
    problems: tuple[str, ...] = ()
    """Everything that is wrong with the declaration."""

    @property
    def summary(self) -> str:
        """The first line of the plug-in's docstring, or of its error."""
        if self.value is None:
            return visible("; ".join(self.problems) or self.error.strip().splitlines()[-1])
        return visible((getdoc(self.value) or "").split("\n", 1)[0])

    @property
    def refusal(self) -> str:
        """The reason why the plug-in cannot be used, as part of a sentence."""
        return f"{'is declared incorrectly' if self.problems else 'cannot be imported'}: {self.summary}"


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of plug-in: the concrete classes with a name that derive from one base class."""

    word: str
    """The kind in messages, e.g. `task`."""
    group: str
    """The group of entry points whose values are modules and packages with plug-ins."""
    base: type[Any]
    problems: Callable[[Any], list[str]]
    """Everything that is wrong with the declaration of a class."""

    def owns(self, value: object, module: ModuleType) -> bool:
        """Whether a value in a module is a plug-in that the module itself defines, not one it imports."""
        if not isinstance(value, type) or not issubclass(value, self.base):
            return False
        if value.__module__ != module.__name__ or isabstract(value):
            return False
        return hasattr(value, "name") or "name" in getattr(value, "model_fields", ())


def find(
    kind: Kind[T],
    folders: Sequence[Path] = (),
    *,
    first: Iterable[Found[T]] = (),
    fixed: Collection[str] = (),
) -> dict[str, Found[T]]:
    """All plug-ins of a kind by name: those in `first`, installed ones, then those in `folders`.

    Those in `folders` may replace others, except for the names in `fixed`. A plug-in whose name is taken is
    listed under its module's name, with that reason. Raises UserError for a folder that does not exist.
    """
    found: dict[str, Found[T]] = {}
    for each in first:
        add(found, each)
    for entry in entries(kind.group):
        for each in _from_package(kind, entry.value):
            add(found, each)
    for folder in folders:
        for file in python_files(folder):
            for each in from_file(kind, file):
                if each.name in fixed:
                    add(found, each)
                else:
                    found[each.name] = each
    return found


def chosen(kind: Kind[T], name: str, found: Mapping[str, Found[T]], *, advice: str = "") -> T:
    """The plug-in `name`.

    Raises UserError with near names, the places that were searched and the modules that could not be
    imported, or with the reason why this plug-in cannot be used. `advice` follows the message on an unknown
    name.
    """
    if name not in found:
        where = sorted({_place(each.source) for each in found.values()})
        broken = [f"{each.source}: {each.summary}" for each in found.values() if each.error]
        parts = [f"looked in {', '.join(where)}", *(f"cannot import {each}" for each in broken)]
        near = did_you_mean(name, found)
        raise UserError(f"unknown {kind.word} {short(name)}{near} ({'; '.join(parts)}){advice}")
    each = found[name]
    if each.value is None:
        raise UserError(f"{kind.word} '{name}' ({each.source}) {each.refusal}")
    return each.value


def add(found: dict[str, Found[T]], each: Found[T]) -> None:
    """Add a plug-in; if its name is taken, under its source, with that reason."""
    taken = found.get(each.name)
    if taken is None or (each.value is not None and each.value is taken.value):
        found[each.name] = each
    else:
        problems = () if each.error else (f"the name '{each.name}' is already taken by {taken.source}",)
        found[each.source] = replace(each, name=each.source, value=None, problems=problems)


def _place(source: str) -> str:
    """The folder of a file, or the package of a module."""
    return str(Path(source).parent) if source.endswith(".py") else source.rpartition(".")[0] or source


def entries(group: str) -> list[EntryPoint]:
    """The entry points of a group: abench's own, then the others by name."""
    return sorted(entry_points(group=group), key=lambda e: (e.name != "abench", e.name))


def python_files(folder: Path) -> list[Path]:
    """The files of a folder that may define plug-ins, sorted: no helpers (`_…`) and no tests of other files.

    Raises UserError if the folder does not exist.
    """
    files = sorted(existing_folder(folder).glob("[!_]*.py"))
    tests = {"conftest.py", *(f"test_{file.name}" for file in files)}
    return [file for file in files if file.name not in tests]


def existing_folder(folder: Path) -> Path:
    """The folder. Raises UserError if it does not exist."""
    if not folder.is_dir():
        raise UserError(f"--plugins {folder} is not a folder")
    return folder


def imported(load: Callable[[], T]) -> T | str:
    """What `load` returns, or the traceback of its error: a broken plug-in is listed with its error.

    A module may also call sys.exit or raise any other exception; only KeyboardInterrupt is passed on. Output
    of modules goes to stderr, because stdout is reserved for abench's answer.
    """
    try:
        with redirect_stdout(sys.stderr):
            return load()
    except KeyboardInterrupt:
        raise
    except BaseException:
        return traceback.format_exc()


def _from_package(kind: Kind[T], package: str) -> Iterator[Found[T]]:
    module = imported(lambda: importlib.import_module(package))
    if isinstance(module, str):
        yield Found(package, package, None, module)
        return
    yield from _in_module(kind, module)
    for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if info.name.startswith("_"):
            continue  # a helper that plug-ins share is not listed, even if it cannot be imported
        full = f"{package}.{info.name}"
        inner = imported(partial(importlib.import_module, full))
        if isinstance(inner, str):
            yield Found(info.name, full, None, inner)
        else:
            yield from _in_module(kind, inner)


def from_file(kind: Kind[T], file: Path) -> Iterator[Found[T]]:
    """The plug-ins of a kind in a file, or the error of its import."""
    module = imported(lambda: _executed(file))
    if isinstance(module, str):
        yield Found(file.stem, str(file), None, module)
    else:
        yield from _in_module(kind, module, source=str(file))


_digests: dict[str, str] = {}
"""Name of a module that was executed from a folder's file -> hash of the content that was executed."""


def executed_digest(module: str) -> str | None:
    """sha256 of the file of a folder that this module was executed from; None for any other module."""
    return _digests.get(module)


def _executed(file: Path) -> ModuleType:
    """The module of a file, which is executed once for all kinds and again if its content has changed."""
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    # The name depends on the place alone, so that the classes of a changed file replace the former ones.
    place = hashlib.sha256(str(file.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    name = f"abench_plugin_{place}_{file.stem}"
    if _digests.get(name) == digest and name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], _digests[name] = module, digest
    try:
        # Not by the loader: bytecode of an older file with the same size and time would be another code.
        exec(compile(content, str(file), "exec"), vars(module))
    except BaseException:
        del sys.modules[name], _digests[name]
        raise
    return module


def _in_module(kind: Kind[T], module: ModuleType, source: str | None = None) -> Iterator[Found[T]]:
    """The plug-ins that a module itself defines; imported ones belong to their own module."""
    place = source or module.__name__
    for variable, value in list(vars(module).items()):
        try:
            if not kind.owns(value, module):
                continue
            problems = kind.problems(value)
        except Exception as error:
            # Reading the attributes of a class may run any code.
            problems = [f"{variable} cannot be inspected: {type(error).__name__}: {error}"]
        if problems:
            yield Found(_row_name(value, variable), place, None, problems=tuple(problems))
        else:
            yield Found(value.name, place, value)


def _row_name(value: object, variable: str) -> str:
    """The name under which an unusable plug-in is listed: its own name, or else its variable's."""
    try:
        name = vars(value).get("name")
    except Exception:
        return variable
    return name if isinstance(name, str) and name_problem(name) is None else variable
