"""The interface of judges of a latent's two sides, and their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from abench import LatentContexts

PoleKind = Literal["opposites", "bidirectional", "unidirectional", "none", "invalid"]
"""`opposites`: both sides are coherent and are opposites. `bidirectional`: both sides are coherent but not
opposites. `unidirectional`: only one side is coherent. `none`: neither is. `invalid`: the judge's answer
could not be read."""

KINDS: tuple[PoleKind, ...] = ("opposites", "bidirectional", "unidirectional", "none")
"""The valid verdicts."""


@dataclass(frozen=True)
class PoleVerdict:
    """A judge's verdict on one latent."""

    kind: PoleKind
    positive: str = ""
    """The subject of the positive side, if the judge names it."""
    negative: str = ""


class PoleJudge(Protocol):
    """Decides for each latent whether both, one or neither of its sides are about something.

    The verdict must not depend on which side is called positive.
    """

    @property
    def name(self) -> str:
        """A short name for tables."""
        ...

    def spec(self) -> dict[str, Any]:
        """Everything that can change its verdicts, as plain JSON; never a secret key."""
        ...

    def judge(self, latents: Sequence[LatentContexts]) -> list[PoleVerdict]:
        """One verdict per latent, in the same order."""
        ...


def kappa(first: Sequence[PoleKind], second: Sequence[PoleKind]) -> float | None:
    """Cohen's kappa of two judges' verdicts on the same latents; None where it is undefined.

    Kappa is (p − e) / (1 − e), where p is the share of verdicts on which they agree and e the share expected
    by chance from each judge's frequencies (Cohen 1960). It is undefined if e is 1 or there are no latents.
    """
    n = len(first)
    if n == 0:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    by_chance = sum(first.count(kind) * second.count(kind) for kind in {*first, *second}) / n**2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
