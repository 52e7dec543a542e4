"""Trying what rests on a task's details or code, whose faults must not affect the rest of a report."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


def attempt(
    what: str, make: Callable[[], T], instead: T, *, raised: tuple[type[Exception], ...] = ()
) -> tuple[T, str | None]:
    """The result of `make` and None; if `make` fails on a task's details, `instead` and a sentence.

    Errors of the types `raised` are not the task's fault, e.g. those of storage.
    """
    try:
        return make(), None
    except raised:
        raise
    except Exception as error:
        # Details are JSON from third parties: anything may be missing or of another type.
        return instead, f"{what} could not be made from stored details: {type(error).__name__}: {error}."


def attempt_readable(
    what: str, make: Callable[[Sequence[Any]], T], records: Sequence[Any], instead: T
) -> tuple[T, str | None]:
    """As `attempt` for `make(records)`, but records that `make` cannot read are left out and counted."""
    made, problem = attempt(what, partial(make, records), instead)
    if problem is None:
        return made, None
    kept = [each for each in records if attempt(what, partial(make, [each]), instead)[1] is None]
    made, again = attempt(what, partial(make, kept), instead)
    left_out = f"{problem} {len(records) - len(kept)} of {len(records)} cells are left out."
    return made, left_out if again is None else again
