"""Steering methods: a difference in means, or one latent of an SAE, found on the same prompts.

Both methods have the same number of candidates and are tried at the same strengths. A strength is the
distance by which the residual stream is moved, in units of its mean norm. A latent is clamped to a code in
units of the residual stream, which is the distance from the state in which the latent is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from abench import (
        SAE,
        Concept,
        Intervention,
        LanguageModel,
    )

POOLINGS: tuple[Literal["mean"], Literal["last"]] = ("mean", "last")


@dataclass(frozen=True)
class Contrast:
    """Prompts that show a concept, and prompts that do not."""

    positive: list[str]
    negative: list[str]


class Candidate(Protocol):
    """One way to steer, at any strength; negative strengths go in the opposite direction."""

    def at(self, strength: float) -> Intervention: ...

    def plain(self) -> dict[str, Any]:
        """A description as plain JSON."""
        ...


@dataclass(frozen=True, eq=False)
class Direction:
    """Activation addition of a difference in means."""

    concept: Concept
    pooling: str
    norm: float
    """Mean norm of the residual stream."""

    def at(self, strength: float) -> Intervention:
        from abench import AddDirection

        return AddDirection(self.concept.direction, strength * self.norm)

    def plain(self) -> dict[str, Any]:
        return {"method": "activation addition", "pooling": self.pooling}


@dataclass(frozen=True, eq=False)
class Latent:
    """Clamping of one latent; positive strengths assert the pole that represents the concept."""

    sae: SAE
    latent: int
    sign: int
    pooling: str
    norm: float
    """Mean norm of the residual stream."""
    keep_error: bool

    def at(self, strength: float) -> Intervention:
        from abench import ClampLatent

        return ClampLatent(self.sae, self.latent, self.value(strength), self.keep_error)

    def value(self, strength: float) -> float:
        """The code to which the latent is clamped, in units of the residual stream."""
        return self.sign * strength * self.norm

    def plain(self) -> dict[str, Any]:
        return {
            "method": "clamping",
            "pooling": self.pooling,
            "latent": self.latent,
            "pole": "+" if self.sign > 0 else "−",
            "unit": self.norm,
        }


def directions(lm: LanguageModel, contrast: Contrast, site: str) -> list[Direction]:
    """Difference-in-means directions over all tokens and at the last token."""
    from abench import mean_difference

    found = [
        mean_difference(lm, contrast.positive, contrast.negative, site, pooling=pooling)
        for pooling in POOLINGS
    ]
    # The same unit of strength for both: the norm over all tokens does not depend on the pooling.
    return [
        Direction(concept, pooling, found[0].activation_norm)
        for concept, pooling in zip(found, POOLINGS, strict=True)
    ]


def latents(
    lm: LanguageModel, sae: SAE, contrast: Contrast, site: str, *, norm: float, keep_error: bool
) -> list[Latent]:
    """The latents whose mean codes differ most over all tokens and at the last token, respectively.

    Differences are measured by how far they move the residual stream. If both are the same latent, the second
    candidate is the runner-up at the last token.
    """
    from abench import latent_differences

    chosen: list[Latent] = []
    for pooling in POOLINGS:
        each = latent_differences(lm, [sae], contrast.positive, contrast.negative, site, pooling=pooling)(sae)
        moved = each.values.abs()
        for latent in moved.argsort(descending=True).tolist():
            if latent not in {found.latent for found in chosen} and moved[latent] > 0:
                sign = 1 if each.values[latent] > 0 else -1
                chosen.append(Latent(sae, latent, sign, pooling, norm, keep_error))
                break
    return chosen


def settings(strengths: Sequence[float]) -> list[float]:
    """Every strength in both directions, sorted."""
    return sorted({sign * each for each in strengths for sign in (-1, 1)})
