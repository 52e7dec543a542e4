"""What a judge of a latent's two sides is given, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from abench import LatentContexts

Kind = Literal["opposites", "bidirectional", "unidirectional", "none", "invalid"]
"""`opposites`: bidirectional, and its sides are opposites. `bidirectional`: the sides are two other things.
`unidirectional`: one side alone is about something. `invalid`: the judge's answer could not be read."""

KINDS: tuple[Kind, ...] = ("opposites", "bidirectional", "unidirectional", "none")
"""The verdicts that count."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one latent."""

    kind: Kind
    positive: str = ""
    """What the positive side is about, where the judge says so."""
    negative: str = ""


class PoleJudge(Protocol):
    """Says of each latent whether its two sides, one of them or none are about something.

    The verdict must not depend on which of the sides is called positive.
    """

    @property
    def name(self) -> str:
        """A short name for tables."""
        ...

    def spec(self) -> dict[str, Any]:
        """Plain JSON: everything that can change its verdicts; never a key."""
        ...

    def judge(self, latents: Sequence[LatentContexts]) -> list[Verdict]:
        """One verdict for each latent, in their order."""
        ...


def kappa(first: Sequence[Kind], second: Sequence[Kind]) -> float | None:
    """Cohen's kappa of two judges' verdicts on the same latents; None where it is not defined.

    (p − e) / (1 − e) with the share p on which they agree and the share e on which they would by chance,
    given how often each says what (Cohen 1960). Not defined where e is 1, or without latents.
    """
    n = len(first)
    if n == 0:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    by_chance = sum(first.count(kind) * second.count(kind) for kind in {*first, *second}) / n**2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
