"""Finding tasks: packages named by the entry-point group `abench.tasks`, then folders of files.

Each module is imported by itself; one that cannot be imported is reported, the others are found.
"""

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from inspect import getdoc, isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from abench.complaints import complaint, named
from abench.errors import OptionError, UserError, did_you_mean, short
from abench.task import Task


@dataclass(frozen=True)
class FoundTask:
    """A task, or a module that should have held one and could not be imported."""

    name: str
    source: str
    """Module or file it comes from."""
    task: type[Task] | None
    error: str = ""
    """Traceback of the import, if it failed."""

    @property
    def summary(self) -> str:
        """The first line of the task's docstring, or of its error."""
        if self.task is None:
            return self.error.strip().splitlines()[-1]
        return (getdoc(self.task) or "").split("\n", 1)[0]


def find_tasks(folders: Sequence[Path] = ()) -> dict[str, FoundTask]:
    """All tasks by name: installed ones, then those in `folders` (which may replace an installed name).

    Raises UserError for a folder that does not exist.
    """
    found: dict[str, FoundTask] = {}
    for entry in sorted(entry_points(group="abench.tasks"), key=lambda e: (e.name != "abench", e.name)):
        found |= {each.name: each for each in _from_package(entry.value)}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--tasks-dir {folder} is not a folder")
        for file in sorted(folder.glob("[!_]*.py")):
            found |= {each.name: each for each in _from_file(file)}
    return found


def get_task(name: str, options: Mapping[str, Any], found: Mapping[str, FoundTask]) -> Task:
    """The task of that name with its options.

    Raises UserError with near names, the import error or the option that is wrong.
    """
    if name not in found:
        where = sorted({each.source.rpartition(".")[0] or each.source for each in found.values()})
        near = did_you_mean(name, found)
        raise UserError(f"unknown task {short(name)}{near} (looked in {', '.join(where)})")
    each = found[name]
    if each.task is None:
        raise UserError(f"task '{name}' ({each.source}) cannot be imported: {each.summary}")
    try:
        return each.task.model_validate(dict(options))
    except ValidationError as error:
        raise OptionError(_option_sentence(each.task, error), error.errors()[0]["loc"]) from error


def _option_sentence(task: type[Task], error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = f"task '{task.name}'"
    if problem["type"] == "extra_forbidden":
        option = str(problem["loc"][-1])
        return f"{where} has no option {short(option)}{did_you_mean(option, task.model_fields)}"
    return complaint(f"option '{named(problem['loc'])}' of {where}" if problem["loc"] else where, problem)


def _from_package(package: str) -> Iterator[FoundTask]:
    try:
        module = importlib.import_module(package)
    except Exception:
        # A broken plug-in is a row with its error; whatever it raises, abench goes on.
        yield FoundTask(package, package, None, traceback.format_exc())
        return
    yield from _tasks_in(module)
    for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
        full = f"{package}.{info.name}"
        try:
            yield from _tasks_in(importlib.import_module(full))
        except Exception:
            yield FoundTask(info.name, full, None, traceback.format_exc())


def _from_file(file: Path) -> Iterator[FoundTask]:
    name = f"abench_tasks_dir_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        yield FoundTask(file.stem, str(file), None, f"{file} is not a Python module")
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception:
        del sys.modules[name]
        yield FoundTask(file.stem, str(file), None, traceback.format_exc())
        return
    yield from _tasks_in(module, source=str(file))


def _tasks_in(module: ModuleType, source: str | None = None) -> Iterator[FoundTask]:
    """Concrete task classes that a module defines itself (imported ones belong to where they come from)."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__:
            if isabstract(value) or not hasattr(value, "name"):
                continue
            yield FoundTask(value.name, source or module.__name__, value)
