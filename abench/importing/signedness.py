"""Whether the codes of an SAE can be negative, according to its class."""

from typing import Any

from abench.latents.encoders import GatedRule, JumpRule, RectifiedRule, TopRule, TwoJumpsRule, rule_of
from abench.variants import get_variant, variant_names


def can_be_negative(sae: Any) -> bool | None:
    """Whether the class of an SAE can give codes below 0; None for a class that abench does not know."""
    match rule_of(sae):
        case TopRule(rectified=rectified):
            return not rectified
        case JumpRule(by_size=by_size):
            return by_size
        case TwoJumpsRule():
            return True
        case RectifiedRule() | GatedRule():
            return False
    architecture = sae.cfg.architecture()
    return get_variant(architecture).signed if architecture in variant_names() else None
