"""How much data a task used, of how much was requested: kept in each cell, and told where it is less."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Amount:
    """Some of a task's data, for `Context.used`. A limited evaluation requests what it is limited to."""

    what: str
    """In the plural, as a note has it: `held-out tokens`, `texts`, `questions`, `pairs`."""
    used: int
    requested: int


def summed(amounts: Iterable[Amount]) -> list[dict[str, Any]]:
    """The amounts as plain JSON, those of the same thing added up, in the order of their first mention."""
    found: dict[str, Amount] = {}
    for each in amounts:
        before = found.get(each.what, Amount(each.what, 0, 0))
        found[each.what] = Amount(each.what, before.used + each.used, before.requested + each.requested)
    return [asdict(each) for each in found.values()]
