"""Near names out of thousands."""

from collections.abc import Collection
from difflib import get_close_matches
from itertools import islice

_MOST = 4


def near_names(name: str, known: Collection[str]) -> str:
    """`"; did you mean 'a' or 'b'?"` for near misses of known names, otherwise a few of the known names."""
    near = get_close_matches(name, known, n=_MOST, cutoff=0.7)
    if near:
        return f"; did you mean {' or '.join(repr(each) for each in near)}?"
    more = f" and {len(known) - _MOST:,} more" if len(known) > _MOST else ""
    return f"; known: {', '.join(islice(known, _MOST))}{more}" if known else ""
