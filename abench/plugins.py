"""Finding tasks: packages named by the entry-point group `abench.tasks`, then folders of files.

A task is a module or a package in one of these packages; names that begin with `_` are helpers.
`abench.discovery` finds plug-ins of any kind.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abench.config.checking import clearest
from abench.config.complaints import option_complaint
from abench.declaration import declaration_problems
from abench.discovery import Found, Kind, chosen, find
from abench.errors import OptionError
from abench.task import Task

FoundTask = Found[type[Task]]

TASKS: Kind[type[Task]] = Kind("task", "abench.tasks", Task, declaration_problems)


def find_tasks(folders: Sequence[Path] = ()) -> dict[str, FoundTask]:
    """All tasks by name: installed ones, then those in `folders`, which may replace installed ones.

    If an installed package adds a task under a name that is taken, the task is listed under its module's
    name, with that reason. Raises UserError for a folder that does not exist.
    """
    return find(TASKS, folders)


def get_task(name: str, options: Mapping[str, Any], found: Mapping[str, FoundTask]) -> Task:
    """The task `name` with the given options.

    Raises UserError with near names, the import error or the invalid option.
    """
    task = chosen(TASKS, name, found)
    try:
        return task.model_validate(dict(options))
    except ValidationError as error:
        problem = clearest(error.errors(include_url=False), options)
        sentence = option_complaint(f"task '{task.name}'", task.model_fields, problem)
        raise OptionError(sentence, problem["loc"]) from error
