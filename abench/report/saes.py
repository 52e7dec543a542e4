"""Names and order of SAEs by their labels, some of which an SAE can lack.

An SAE that abench did not train has no seed, and no k unless its files state one.
"""

from collections.abc import Mapping
from typing import Any

from abench.report.style import NO_STYLES, Styles, variant_style


def sae_name(labels: Mapping[str, Any], styles: Styles = NO_STYLES, *, width: bool = True) -> str:
    """E.g. `TopK, k = 16, 2048 latents, seed 0`, without the labels that the SAE lacks."""
    parts = [variant_style(labels["variant"], styles).title]
    parts += [with_k(labels["k"])] if labels["k"] is not None else []
    parts += [f"{labels['width']} latents"] if width else []
    parts += [f"seed {labels['seed']}"] if labels["seed"] is not None else []
    return ", ".join(parts)


def with_k(k: int | None) -> str:
    """`k = 16`, or that there is none."""
    return "k not stated" if k is None else f"k = {k}"


def absent_last(number: int | None) -> tuple[bool, int]:
    """A key for sorting numbers, after which absent ones come last."""
    return number is None, 0 if number is None else int(number)


def present(value: Any) -> Any:
    """The value of a data frame's cell as a Python value; None if it is absent."""
    import pandas as pd

    return None if pd.isna(value) else value
