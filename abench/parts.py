"""The parts of a task's data on which a cell rests: stored with it, and reported if some were left out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Parts:
    """The parts of one kind on which a cell rests, for `Context.rests_on`.

    They must be the same for all SAEs of a model and site, so that their scores are means over the same
    parts: decide without an SAE.
    """

    what: str
    """A plural noun, as it appears in notes: `data sets`, `attributes`, `letters`."""
    used: tuple[str, ...]
    """In the order in which they were scored."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Part -> the reason why it was left out, as a clause: `the model answers 3 of 200 prompts`."""


def plain_parts(found: Iterable[Parts]) -> list[dict[str, Any]]:
    """The parts as plain JSON, without duplicates, in order of first appearance."""
    plain: list[dict[str, Any]] = []
    for each in found:
        reasons = {str(part): str(reason) for part, reason in each.left_out.items()}
        record = {"what": str(each.what), "used": list(map(str, each.used)), "left_out": reasons}
        if record not in plain:
            plain.append(record)
    return plain
