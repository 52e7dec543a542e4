"""Trying what rests on a task's details or code, whose faults must not affect the rest of a report."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def attempt(what: str, make: Callable[[], T], instead: T) -> tuple[T, str | None]:
    """The result of `make` and None; if `make` fails on a task's details, `instead` and a sentence.

    An OSError is raised, because a storage failure is not the task's fault.
    """
    try:
        return make(), None
    except OSError:
        raise
    except Exception as error:
        # Details are JSON from third parties: anything may be missing or of another type.
        return instead, f"{what} could not be made from stored details: {type(error).__name__}: {error}."
