"""Steering methods: the candidates of each, found on the same prompts, and random controls.

All methods have the same number of candidates and are tried at the same strengths. A strength is the distance
by which the residual stream is moved, in units of its mean norm. A latent is clamped to a code in units of
the residual stream, which is the distance from the state in which the latent is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from abench import (
        SAE,
        Continuations,
        ContrastCodes,
        DirectionCandidate,
        Intervention,
        LanguageModel,
        LatentCandidate,
    )

    Candidate = DirectionCandidate | LatentCandidate

GRADIENT_PROMPTS = 32
"""Number of harmful prompts whose gradient ranks latents."""
_REFUSES = ("I'm sorry", "I cannot", "I can't")
_COMPLIES = ("Sure", "Of course", "Here")
_TINY_REFUSES = ("i am sorry", "i cannot", "i will not", "sorry", "no,")
_TINY_COMPLIES = ("sure,", "of course.", "yes,")


@dataclass(frozen=True)
class Contrast:
    """Prompts that show a concept, and prompts that do not."""

    positive: list[str]
    negative: list[str]


@dataclass(frozen=True)
class Setting:
    """A candidate's place in its method's list, and a strength; None for a candidate without a strength."""

    candidate: int
    strength: float | None


@dataclass(frozen=True, eq=False)
class Method:
    """Ways to steer, the most promising first."""

    candidates: Sequence[Candidate]
    norm: float
    """Mean norm of the residual stream, the unit of strengths."""

    def at(self, setting: Setting) -> Intervention:
        """The intervention of a setting."""
        return self.candidates[setting.candidate].at((setting.strength or 0.0) * self.norm)

    def settings(self, candidate: int, strengths: Sequence[float]) -> list[Setting]:
        """A candidate at these strengths; once if it has no strength."""
        if not self.candidates[candidate].has_strength:
            return [Setting(candidate, None)]
        return [Setting(candidate, strength) for strength in strengths]

    def plain(self, candidate: int) -> dict[str, Any]:
        """A description of a candidate as plain JSON."""
        return self.candidates[candidate].plain()


def directions(lm: LanguageModel, contrast: Contrast, site: str, number: int) -> Method:
    """Differences in means (DiM) of up to `number` kinds, half of them added and half removed."""
    from abench import direction_candidates

    found, norm = direction_candidates(lm, contrast.positive, contrast.negative, site, number=number)
    return Method(found, norm)


def latents(
    sae: SAE,
    codes: ContrastCodes,
    number: int,
    *,
    norm: float,
    gradient: torch.Tensor,
    keep_error: bool,
) -> Method:
    """Up to `number` latents by difference, by separation and by the gradient towards refusal, in turn."""
    from abench import latent_candidates

    found = latent_candidates(sae, codes, number=number, gradient=gradient, keep_error=keep_error)
    return Method(found, norm)


def refusal_gradient(
    lm: LanguageModel, contrast: Contrast, site: str, objective: Continuations
) -> torch.Tensor:
    """The gradient at a site of refusing the first harmful prompts, [d_model]."""
    from abench import objective_gradient

    return objective_gradient(lm, contrast.positive[:GRADIENT_PROMPTS], site, objective)


def refusing(*, tiny: bool, chat: bool) -> Continuations:
    """The first words of refusals against those of compliances."""
    from abench import Continuations

    towards, away = (_TINY_REFUSES, _TINY_COMPLIES) if tiny else (_REFUSES, _COMPLIES)
    # After a prompt that is no chat, the reply continues the text.
    space = "" if tiny or chat else " "
    return Continuations([space + text for text in towards], [space + text for text in away])


def random_pushes(d_model: int, number: int, *, norm: float, seed: int) -> Method:
    """Random directions: what a push of the same length does in any direction."""
    from abench import random_directions

    return Method(random_directions(d_model, number, seed=seed), norm)


def random_latents_of(
    sae: SAE, codes: ContrastCodes, number: int, *, norm: float, seed: int, keep_error: bool
) -> Method:
    """Random latents of an SAE, out of those that fire on the prompts."""
    from abench import random_latents

    return Method(random_latents(sae, codes.firing, number, seed=seed, keep_error=keep_error), norm)
