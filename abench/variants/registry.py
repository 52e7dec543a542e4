"""Variants by name: those of abench, of installed packages, of folders, and registered ones."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from abench.config.complaints import option_complaint
from abench.config.sweeps import settings
from abench.discovery import Found, Kind, chosen, find, imported
from abench.errors import OptionError
from abench.names import name_problem
from abench.settings import with_settings
from abench.variants.absjumprelu import AbsJumpReLU
from abench.variants.absmatryoshka import AbsMatryoshka
from abench.variants.abstopk import AbsTopK
from abench.variants.base import SAEShape, Variant
from abench.variants.batchabstopk import BatchAbsTopK
from abench.variants.batchtopk import BatchTopK
from abench.variants.declared import variant_problems
from abench.variants.gated import Gated
from abench.variants.jumprelu import JumpReLU
from abench.variants.matryoshka import Matryoshka
from abench.variants.multistep import MultiStep
from abench.variants.relu import ReLU
from abench.variants.signedtopk import SignedTopK
from abench.variants.topk import TopK

V = TypeVar("V", bound=type[Variant])

FoundVariant = Found[type[Variant]]

VARIANTS: Kind[type[Variant]] = Kind("variant", "abench.variants", Variant, variant_problems)
HOW_TO_ADD = (
    ". To add one of your own, write it with `abench new variant NAME` and give its folder with --plugins, "
    "or install a package with the entry point abench.variants"
)

_PAPER: tuple[type[Variant], ...] = (ReLU, Gated, JumpReLU, TopK, BatchTopK, AbsTopK, BatchAbsTopK)
_BEYOND: tuple[type[Variant], ...] = (AbsJumpReLU, MultiStep, Matryoshka, AbsMatryoshka, SignedTopK)
_variants: dict[str, type[Variant]] = {variant.name: variant for variant in (*_PAPER, *_BEYOND)}
_OWN = frozenset(_variants)
"""Names of the variants that come with abench, which no other variant can have."""


def _configured(variant: type[Variant]) -> object:
    return variant().training_config(SAEShape(d_in=8, width=16, k=2))


_seen: dict[type[Variant], None] = {}
"""The variants that were found in this process, in the order of finding."""


def register(variant_class: V) -> V:
    """Register a variant under its name; usable as a class decorator.

    Only needed for a class in a program or notebook: variants in packages and folders are found without it.
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


def known_variants() -> dict[str, FoundVariant]:
    """The variants that come with abench and registered ones, by name; imports nothing."""
    return {name: Found(name, each.__module__, each) for name, each in _variants.items()}


def find_variants(folders: Sequence[Path] = ()) -> dict[str, FoundVariant]:
    """All variants by name: `known_variants`, those of installed packages, then those in `folders`.

    Those in `folders` may replace those of packages, but the names of abench's own cannot be taken. Raises
    UserError for a folder that does not exist. Imports the modules of the packages and the files in the
    folders; what they import may be slow.
    """
    found = find(VARIANTS, folders, first=known_variants().values(), fixed=_OWN)
    _seen.update((each.value, None) for each in found.values() if each.value is not None)
    return found


def import_architectures() -> None:
    """Import the SAE classes of the variants that do not come with abench, so that sae-lens knows them.

    These are the variants of packages, and of the folders in which this process has looked for variants. A
    variant may import its classes only when it is asked for its configuration, as abench's own do.
    """
    find_variants()
    for each in [variant for variant in _seen if variant.name not in _OWN]:
        # A variant that fails here has no SAE class to load either, which is then reported.
        imported(partial(_configured, each))


def variants_for(names: Sequence[str], folders: Sequence[Path] = ()) -> dict[str, FoundVariant]:
    """The variants among which these names are looked up; plug-ins are imported only if needed."""
    known = known_variants()
    return known if not folders and all(name in known for name in names) else find_variants(folders)


def variant_settings(
    name: str, options: Mapping[str, Any], found: Mapping[str, FoundVariant]
) -> dict[str, Variant]:
    """The variant with each combination of its options' values (`abench.config.sweeps`), by label.

    The label is the name alone if every option has one value. Raises UserError as `get_variant` does.
    """
    variant_class = chosen(VARIANTS, name, found, advice=HOW_TO_ADD)
    return {
        with_settings(name, differing): get_variant(name, whole, found)
        for differing, whole in settings(variant_class, options)
    }


def get_variant(
    name: str,
    options: Mapping[str, Any] | None = None,
    found: Mapping[str, FoundVariant] | None = None,
) -> Variant:
    """The variant with this name and these options.

    It is looked up in `found`; by default among the variants that come with abench, registered ones and those
    of installed packages. Raises UserError for an unknown variant, an unknown option or an invalid value.
    """
    among = variants_for([name]) if found is None else found
    variant_class = chosen(VARIANTS, name, among, advice=HOW_TO_ADD)
    try:
        return variant_class.model_validate(dict(options or {}))
    except ValidationError as error:
        problems = error.errors()
        owner, known = f"variant '{name}'", variant_class.model_fields
        message = "; ".join(option_complaint(owner, known, problem) for problem in problems)
        raise OptionError(message, problems[0]["loc"]) from None
