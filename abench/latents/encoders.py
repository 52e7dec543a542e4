"""How the known SAE classes turn pre-activations into codes: the only module that lists them.

active.py (active latents) and few_latents.py (selected latents) follow these rules. An SAE of any other class
is encoded in full by its own `encode`.
"""

from dataclasses import dataclass
from typing import Any

from sae_lens import (
    AbsTopKSAE,
    AbsTopKTrainingSAE,
    GatedSAE,
    JumpReLUSAE,
    StandardSAE,
    TopKSAE,
    TopKTrainingSAE,
)

from abench.variants.saes import AbsJumpReLUSAE, BatchAbsTopKSAE, SignedTopKSAE, SignedTopKTrainingSAE


@dataclass(frozen=True)
class TopRule:
    """The k largest pre-activations of a token."""

    by_size: bool = False
    """Whether "largest" is by absolute value; the sign is kept."""
    rectified: bool = False
    """Whether negative values among the k become 0."""


@dataclass(frozen=True)
class RectifiedRule:
    """Pre-activations above 0."""


@dataclass(frozen=True)
class JumpRule:
    """Pre-activations above each latent's threshold, which is at least 0."""

    by_size: bool = False
    """Whether the absolute value is compared with the threshold."""


@dataclass(frozen=True)
class TwoJumpsRule:
    """Pre-activations above each latent's first threshold, or below the negative of its second."""


@dataclass(frozen=True)
class GatedRule:
    """A rectified magnitude where a gate with the same directions is open."""


Rule = TopRule | RectifiedRule | JumpRule | TwoJumpsRule | GatedRule

_RULES: dict[type, Rule] = {
    TopKSAE: TopRule(rectified=True),
    TopKTrainingSAE: TopRule(rectified=True),
    AbsTopKSAE: TopRule(by_size=True),
    AbsTopKTrainingSAE: TopRule(by_size=True),
    SignedTopKSAE: TopRule(),
    SignedTopKTrainingSAE: TopRule(),
    StandardSAE: RectifiedRule(),
    JumpReLUSAE: JumpRule(),
    BatchAbsTopKSAE: JumpRule(by_size=True),
    AbsJumpReLUSAE: TwoJumpsRule(),
    GatedSAE: GatedRule(),
}


def rule_of(sae: Any) -> Rule | None:
    """The encoding rule of an SAE, by its exact class (a subclass may differ); None for an unknown class."""
    return _RULES.get(type(sae))
