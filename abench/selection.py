"""The parts of its data that a task can use: all that it needs, or those that model and data can give."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from abench.errors import UserError
from abench.parts import Parts
from abench.storage.faults import StorageError
from abench.task import Skip

Problems: TypeAlias = Mapping[str, Skip | UserError]
"""Part -> why it cannot be used: Skip for too little data, UserError for data that cannot be read."""


def problems_of(names: Sequence[str], check: Callable[[str], object]) -> dict[str, Skip | UserError]:
    """The parts for which `check(part)` raises Skip or UserError, with the error.

    A StorageError is raised at once: a full disk says nothing about a part.
    """
    found: dict[str, Skip | UserError] = {}
    for name in names:
        try:
            check(name)
        except StorageError:
            raise
        except (Skip, UserError) as error:
            found[name] = error
    return found


def usable_parts(
    what: str,
    names: Sequence[str],
    problems: Problems,
    *,
    available: bool,
    go_on: str,
    not_selected: Sequence[str] = (),
) -> Parts:
    """The parts in `names` without problems.

    With `available`, parts with a problem are left out as long as one remains. Otherwise the problems are
    raised together, in one sentence that ends with `go_on`, what to type to go on without these parts, unless
    no part remains: as UserError if one of them is a UserError, and as Skip if all are. `not_selected` are
    further parts that the task has by default; they are listed as left out.
    """
    used = tuple(name for name in names if name not in problems)
    if problems and not (available and used):
        none = f"none of the {len(names)} {what} can be used" if len(names) > 1 else ""
        raise _refusal(problems, go_on if used else none)
    reasons = {name: str(error) for name, error in problems.items()}
    return Parts(what, used, dict.fromkeys(not_selected, "not selected") | reasons)


def _refusal(problems: Problems, go_on: str = "") -> Skip | UserError:
    """The error that names all problems: a UserError if one of them is, else a Skip."""
    sentences = dict.fromkeys(str(error).rstrip(" .") for error in problems.values())
    message = "; ".join(sentences) + (f"; {go_on}" if go_on else "")
    broken = any(isinstance(error, UserError) for error in problems.values())
    return UserError(message) if broken else Skip(message)
