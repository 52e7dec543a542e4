"""The interface of judges that explain a latent and then detect it, and the scores of a detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .windows import Examples


@dataclass(frozen=True)
class Answer:
    """A judge's explanation of a unit, and its prediction for each tested window.

    An answer that could not be read is None.
    """

    explanation: str | None
    predicted: tuple[bool, ...] | None


class Explainer(Protocol):
    """Explains units by the windows that are shown, then predicts which tested windows are active.

    It must not look at the marks of the tested windows.
    """

    @property
    def name(self) -> str:
        """A short name for tables."""
        ...

    def spec(self) -> dict[str, Any]:
        """Everything that can change its answers, as plain JSON; never a secret key."""
        ...

    def answers(self, units: Sequence[Examples]) -> list[Answer]:
        """One answer per unit, in the same order."""
        ...


def detection(predicted: Sequence[bool], examples: Examples) -> float:
    """The share of tested windows that are predicted correctly: sae-bench's AutoInterp score of a latent.

    With 4 active windows of 14, "none of them" scores 0.71.
    """
    truth = [window.active for window in examples.tested]
    return sum(a == b for a, b in zip(predicted, truth, strict=True)) / len(truth)


def balanced(predicted: Sequence[bool], examples: Examples) -> float:
    """The mean of the shares that are predicted correctly among active and among inactive windows.

    A prediction that does not depend on the window scores 0.5.
    """
    pairs = list(zip(predicted, (window.active for window in examples.tested), strict=True))
    shares = []
    for truth in (True, False):
        mine = [said == truth for said, is_active in pairs if is_active == truth]
        shares.append(sum(mine) / len(mine))
    return sum(shares) / 2
