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
