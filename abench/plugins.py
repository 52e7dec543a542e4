"""Finding tasks: packages named by the entry-point group `abench.tasks`, then folders of files.

A task is a module or a package in one of these packages; names that begin with `_` are helpers. Each module
is imported separately. A module that cannot be imported and a task with an invalid declaration are reported
and do not affect other tasks.
"""

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from inspect import getdoc, isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from abench.config.checking import clearest
from abench.config.complaints import option_complaint
from abench.declaration import declaration_problems
from abench.errors import OptionError, UserError, did_you_mean, short
from abench.names import name_problem
from abench.sanitize.printable import visible
from abench.task import Task


@dataclass(frozen=True)
class FoundTask:
    """A task, a module that cannot be imported, or a task with an invalid declaration."""

    name: str
    source: str
    """The module or file that it comes from."""
    task: type[Task] | None
    """None if the task cannot be used."""
    error: str = ""
    """The traceback of the import, if it failed."""
    problems: tuple[str, ...] = ()
    """Everything that is wrong with the declaration."""

    @property
    def summary(self) -> str:
        """The first line of the task's docstring, or of its error."""
        if self.task is None:
            return visible("; ".join(self.problems) or self.error.strip().splitlines()[-1])
        return visible((getdoc(self.task) or "").split("\n", 1)[0])

    @property
    def refusal(self) -> str:
        """The reason why the task cannot be used, as part of a sentence."""
        return f"{'is declared incorrectly' if self.problems else 'cannot be imported'}: {self.summary}"


def find_tasks(folders: Sequence[Path] = ()) -> dict[str, FoundTask]:
    """All tasks by name: installed ones, then those in `folders`, which may replace installed ones.

    If an installed package adds a task under a name that is taken, the task is listed under its module's
    name, with that reason. Raises UserError for a folder that does not exist.
    """
    found: dict[str, FoundTask] = {}
    for entry in sorted(entry_points(group="abench.tasks"), key=lambda e: (e.name != "abench", e.name)):
        for each in _from_package(entry.value):
            _add(found, each)
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--tasks-dir {folder} is not a folder")
        for file in sorted(folder.glob("[!_]*.py")):
            found |= {each.name: each for each in _from_file(file)}
    return found


def _add(found: dict[str, FoundTask], each: FoundTask) -> None:
    taken = found.get(each.name)
    if taken is None or (each.task is not None and each.task is taken.task):
        found[each.name] = each
    else:
        problems = () if each.error else (f"the name '{each.name}' is already taken by {taken.source}",)
        found[each.source] = replace(each, name=each.source, task=None, problems=problems)


def get_task(name: str, options: Mapping[str, Any], found: Mapping[str, FoundTask]) -> Task:
    """The task `name` with the given options.

    Raises UserError with near names, the import error or the invalid option.
    """
    if name not in found:
        where = sorted({each.source.rpartition(".")[0] or each.source for each in found.values()})
        near = did_you_mean(name, found)
        raise UserError(f"unknown task {short(name)}{near} (looked in {', '.join(where)})")
    each = found[name]
    if each.task is None:
        raise UserError(f"task '{name}' ({each.source}) {each.refusal}")
    try:
        return each.task.model_validate(dict(options))
    except ValidationError as error:
        problem = clearest(error.errors(include_url=False), options)
        sentence = option_complaint(f"task '{each.task.name}'", each.task.model_fields, problem)
        raise OptionError(sentence, problem["loc"]) from error


def _from_package(package: str) -> Iterator[FoundTask]:
    module = _imported(lambda: importlib.import_module(package))
    if isinstance(module, str):
        yield FoundTask(package, package, None, module)
        return
    yield from _tasks_in(module)
    for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if info.name.startswith("_"):
            continue  # a helper that tasks share is not listed, even if it cannot be imported
        full = f"{package}.{info.name}"
        inner = _imported(partial(importlib.import_module, full))
        if isinstance(inner, str):
            yield FoundTask(info.name, full, None, inner)
        else:
            yield from _tasks_in(inner)


def _from_file(file: Path) -> Iterator[FoundTask]:
    module = _imported(lambda: _executed(file))
    if isinstance(module, str):
        yield FoundTask(file.stem, str(file), None, module)
    else:
        yield from _tasks_in(module, source=str(file))


def _executed(file: Path) -> ModuleType:
    name = f"abench_tasks_dir_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _imported(load: Callable[[], ModuleType]) -> ModuleType | str:
    """The module, or the traceback of its error: a broken plug-in is listed with its error.

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


def _tasks_in(module: ModuleType, source: str | None = None) -> Iterator[FoundTask]:
    """The concrete task classes that a module itself defines; imported ones belong to their own module."""
    place = source or module.__name__
    for variable, value in list(vars(module).items()):
        try:
            if not _is_own_task(value, module):
                continue
            problems = declaration_problems(value)
        except Exception as error:
            # Reading the attributes of a class may run any code.
            problems = [f"{variable} cannot be inspected: {type(error).__name__}: {error}"]
        if problems:
            yield FoundTask(_row_name(value, variable), place, None, problems=tuple(problems))
        else:
            yield FoundTask(value.name, place, value)


def _is_own_task(value: object, module: ModuleType) -> bool:
    if not isinstance(value, type) or not issubclass(value, Task) or value.__module__ != module.__name__:
        return False
    return not isabstract(value) and (hasattr(value, "name") or "name" in value.model_fields)


def _row_name(value: object, variable: str) -> str:
    """The name under which an unusable task is listed: its own name, or else its variable's."""
    try:
        name = vars(value).get("name")
    except Exception:
        return variable
    return name if isinstance(name, str) and name_problem(name) is None else variable
