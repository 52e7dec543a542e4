"""How much data a task used of the amount requested: stored in each cell, and reported if it is less."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Amount:
    """An amount of one kind of data, for `Context.used`. A limited evaluation requests only its limit."""

    what: str
    """A plural noun, as it appears in notes: `held-out tokens`, `texts`, `questions`, `pairs`."""
    used: int
    requested: int


def summed(amounts: Iterable[Amount]) -> list[dict[str, Any]]:
    """The amounts as plain JSON, summed by kind of data, in order of first appearance."""
    found: dict[str, Amount] = {}
    for each in amounts:
        before = found.get(each.what, Amount(each.what, 0, 0))
        found[each.what] = Amount(each.what, before.used + each.used, before.requested + each.requested)
    return [asdict(each) for each in found.values()]
