"""Variants by name, including third-party ones."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from abench.config.complaints import option_complaint
from abench.errors import OptionError, UserError, did_you_mean, short
from abench.names import name_problem
from abench.variants.absjumprelu import AbsJumpReLU
from abench.variants.absmatryoshka import AbsMatryoshka
from abench.variants.abstopk import AbsTopK
from abench.variants.base import Variant
from abench.variants.batchabstopk import BatchAbsTopK
from abench.variants.batchtopk import BatchTopK
from abench.variants.gated import Gated
from abench.variants.jumprelu import JumpReLU
from abench.variants.matryoshka import Matryoshka
from abench.variants.multistep import MultiStep
from abench.variants.relu import ReLU
from abench.variants.signedtopk import SignedTopK
from abench.variants.topk import TopK

V = TypeVar("V", bound=type[Variant])

_PAPER: tuple[type[Variant], ...] = (ReLU, Gated, JumpReLU, TopK, BatchTopK, AbsTopK, BatchAbsTopK)
_BEYOND: tuple[type[Variant], ...] = (AbsJumpReLU, MultiStep, Matryoshka, AbsMatryoshka, SignedTopK)
_variants: dict[str, type[Variant]] = {variant.name: variant for variant in (*_PAPER, *_BEYOND)}


def register(variant_class: V) -> V:
    """Register a variant under its name; usable as a class decorator.

    Raises ValueError if another class has that name, or if the name cannot be part of a path.
    """
    name = variant_class.name
    if problem := name_problem(name):
        raise ValueError(f"the variant {variant_class.__qualname__} cannot have this name: {problem}")
    known = _variants.get(name, variant_class)
    if (known.__module__, known.__qualname__) != (variant_class.__module__, variant_class.__qualname__):
        raise ValueError(f"the variant name '{name}' is taken by {known.__module__}.{known.__qualname__}")
    _variants[name] = variant_class
    return variant_class


def variant_names() -> list[str]:
    """The registered names: the paper's variants in its order, then abench's others, then third-party."""
    return list(_variants)


def get_variant(name: str, options: Mapping[str, Any] | None = None) -> Variant:
    """The variant with this name and these options.

    Raises UserError for an unknown variant, an unknown option or an invalid value.
    """
    if name not in _variants:
        raise UserError(f"unknown variant {short(name)}{did_you_mean(name, _variants)}")
    variant_class = _variants[name]
    try:
        return variant_class.model_validate(dict(options or {}))
    except ValidationError as error:
        problems = error.errors()
        owner, known = f"variant '{name}'", variant_class.model_fields
        message = "; ".join(option_complaint(owner, known, problem) for problem in problems)
        raise OptionError(message, problems[0]["loc"]) from None
