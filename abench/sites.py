"""Sites, the places in a language model whose activations SAEs read, and names for its depths.

Sites are named as in transformer-lens: `blocks.L.hook_KIND` for block L, counted from 0. The paper compares
kinds of sites in its Table 4 and depths in its Table 6.
"""

import re
from collections.abc import Iterable
from typing import Final

from abench.errors import UserError, did_you_mean, short

SITE_KINDS: Final = ("resid_post", "attn_out", "mlp_out")
"""The residual stream after a block, and what its attention and its MLP add to the residual stream."""

DEPTHS: Final = ("early", "middle", "late")
"""Names for blocks; see `layer_numbers`."""

_SITE = re.compile(r"blocks\.(\d+)\.hook_(\w+)")


def site_name(layer: int, kind: str = "resid_post") -> str:
    """The site of a kind at block `layer` (counted from 0); by default the residual stream after it."""
    return f"blocks.{layer}.hook_{kind}"


def layer_of(site: str) -> int:
    """The block (counted from 0) of a site; raises UserError for a name that is not a site's."""
    return _parts(site)[0]


def kind_of(site: str) -> str:
    """The kind of a site, one of `SITE_KINDS`; raises UserError for a name that is not a site's."""
    return _parts(site)[1]


def is_after_block(site: str) -> bool:
    """Whether a site is the residual stream after a block, not what a part of the block adds to it."""
    return kind_of(site) == "resid_post"


def _parts(site: str) -> tuple[int, str]:
    match = _SITE.fullmatch(site)
    if match is None:
        forms = ", ".join(site_name(0, kind).replace("0", "LAYER") for kind in SITE_KINDS)
        raise UserError(f"unknown site {short(site)}: sites are {forms}")
    if match[2] not in SITE_KINDS:
        known = [site_name(int(match[1]), kind) for kind in SITE_KINDS]
        raise UserError(f"unknown site {short(site)}{did_you_mean(site, known)}")
    return int(match[1]), match[2]


def layer_numbers(layers: Iterable[int | str], n_layers: int) -> tuple[int, ...]:
    """The blocks that numbers and names stand for, in order.

    Of n blocks, `early` is block n // 6, `middle` is n // 2 and `late` is 5 n // 6 (5, 15 and 25 of 30).
    Raises UserError if two of them are the same block.
    """
    found: dict[int, int | str] = {}
    for layer in layers:
        number = _number(layer, n_layers)
        if number in found:
            raise UserError(
                f"{found[number]} and {layer} are the same block: block {number} of {n_layers} (0 to "
                f"{n_layers - 1}); leave one of them out"
            )
        found[number] = layer
    return tuple(found)


def _number(layer: int | str, n_layers: int) -> int:
    blocks = {"early": n_layers // 6, "middle": n_layers // 2, "late": 5 * n_layers // 6}
    return layer if isinstance(layer, int) else blocks[layer]
