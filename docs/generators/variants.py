"""What a variant declares: regulariser, proximal operator with its code, options."""

import inspect
import sys
from collections.abc import Iterator

from abench.variants import Variant, find_variants
from generators.fields import field_table


def facts(name: str) -> str:
    """Everything that the class and the module of one variant state; KeyError if there is no such variant."""
    variant = built_in()[name]
    sign = "signed" if variant.signed else "non-negative"
    set_by = f"Set them with `--set variant_options.{name}.OPTION=VALUE`; "
    parts = [
        f"**{variant.title}**: {variant.regulariser}. Latents are {sign}; {_sparsity(variant)}.",
        inspect.getdoc(variant) or "",
        *_operators(variant),
        "## Options",
        set_by
        + "[a list of values](../variants.md#several-settings-of-one-variant) trains one SAE for each.",
        field_table(variant, heading="option"),
    ]
    return "\n\n".join(parts)


def built_in() -> dict[str, type[Variant]]:
    """The variants that come with abench, by name."""
    found = {name: each.value for name, each in find_variants().items() if each.value is not None}
    return {name: each for name, each in found.items() if each.__module__.startswith("abench.")}


def _sparsity(variant: type[Variant]) -> str:
    if variant.penalty is None:
        return "the operator keeps k of them active"
    return "a penalty is adapted until k of them are active"


def _operators(variant: type[Variant]) -> Iterator[str]:
    """The public functions of the variant's module: its operator, whose docstring has the proof."""
    module = sys.modules[variant.__module__]
    functions = [
        each
        for name, each in vars(module).items()
        if inspect.isfunction(each) and not name.startswith("_") and each.__module__ == module.__name__
    ]
    if functions:
        yield "## Operator"
        yield f"From `{module.__name__}`:"
    for each in functions:
        yield f"```python\n{inspect.getsource(each).strip()}\n```"
