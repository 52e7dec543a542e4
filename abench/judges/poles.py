"""The interface of judges of a latent's two sides, and their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from abench.latents.excerpts import LatentContexts

PoleKind = Literal["opposites", "bidirectional", "unidirectional", "none", "invalid"]
"""`opposites`: both sides are coherent and are opposites. `bidirectional`: both sides are coherent but not
opposites. `unidirectional`: only one side is coherent. `none`: neither is. `invalid`: the judge's answer
could not be read."""


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
