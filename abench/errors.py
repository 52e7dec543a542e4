"""The errors a user can cause, as sentences; everything else is a bug and keeps its traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in what abench was asked to do: one sentence saying what, where and what next.

    The command line prints it without a traceback and exits with status 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'topk'?"` for a near miss of a known name, otherwise the list of known names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""


def outside_cause(error: BaseException) -> str | None:
    """The sentence for a failure that is neither the user's mistake nor a bug; None for any other error.

    That is what the machine refuses: storage (OSError), memory, depth of recursion. Everything that turns
    such failures into sentences calls this, so that they read the same everywhere.
    """
    if isinstance(error, OSError):
        place = next((str(name) for name in (error.filename2, error.filename) if name is not None), None)
        cause = error.strerror or str(error) or type(error).__name__
        return f"{place}: {cause}" if place else cause
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    if isinstance(error, RecursionError):
        return "something is nested too deeply"
    return None
