"""The place that an SAE reads: from the terms of other libraries to abench's sites."""

import re
from dataclasses import dataclass

from abench.sites import SITE_KINDS, site_name

_BLOCK = re.compile(r"(?:.*\.)?(?:blocks|layers|h|block|layer)[._](\d+)(?:\.(.+))?", re.IGNORECASE)
_KINDS = {
    "resid_post": "resid_post",
    "resid": "resid_post",
    "residual": "resid_post",
    "out": "resid_post",
    "resid_pre": "resid_pre",
    "in": "resid_pre",
    "attn_out": "attn_out",
    "attention_out": "attn_out",
    "attn": "attn_out",
    "self_attn": "attn_out",
    "attention": "attn_out",
    "mlp_out": "mlp_out",
    "mlp": "mlp_out",
    "feed_forward": "mlp_out",
}
"""Words for places in a block -> the kind of site, or `resid_pre`, the residual stream before the block."""
_LAST_LAYERS = {"o_proj", "c_proj", "down_proj", "dense", "dense_4h_to_h", "out", "output"}
"""Names of the last layer of an attention or MLP module, whose output is the module's."""


@dataclass(frozen=True)
class Place:
    """What a name of a place stands for."""

    site: str | None
    note: str | None = None
    """A sentence if the site is not called the same, or if the place is none of abench's sites."""


def place_of(hook: str | None, layer: int | None = None, *, reads_input: bool = False) -> Place:
    """The site that a name of a place in a model stands for.

    Names are those of transformer-lens (`blocks.6.hook_resid_post`), of modules (`model.layers.6`,
    `transformer.h.6.mlp`, `gpt_neox.layers.3.attention`) and of kinds (`resid_post_layer_6`, or `resid_post`
    with the layer apart). With `reads_input` the place is what goes into the module.
    """
    if hook is None:
        return Place(None) if layer is None else _placed(layer, "resid_pre" if reads_input else "resid_post")
    name = hook.replace("{layer}", str(layer)) if layer is not None else hook
    number, kind = _parts(name, layer)
    if reads_input:
        kind = "resid_pre" if kind == "resid_post" else None
    if number is None or kind is None:
        sites = ", ".join(site_name(0, each).replace("0", "LAYER") for each in SITE_KINDS)
        what = f"what goes into {hook}" if reads_input else hook
        return Place(None, f"It reads {what}, which is none of abench's sites ({sites}).")
    place = _placed(number, kind)
    if place.site in (hook, None):
        return place
    return Place(place.site, place.note or f"{hook} is {place.site}.")


def _placed(layer: int, kind: str) -> Place:
    if kind != "resid_pre":
        return Place(site_name(layer, kind))
    if layer == 0:
        return Place(None, "It reads the residual stream before block 0, which is none of abench's sites.")
    site = site_name(layer - 1)
    return Place(site, f"The residual stream before block {layer} is {site}.")


def _parts(name: str, layer: int | None) -> tuple[int | None, str | None]:
    """The block, and the kind of site or `resid_pre`; None for what the name does not tell."""
    block = _BLOCK.fullmatch(name)
    if block is not None:
        return int(block[1]), _kind(block[2])
    apart = re.fullmatch(r"(.+?)[._](?:layer|block)[._]?(\d+)", name)
    if apart is not None:
        return int(apart[2]), _kind(apart[1])
    return layer, _kind(name)


def _kind(inside: str | None) -> str | None:
    """The kind of a place within a block; the block's own output for None."""
    if inside is None:
        return "resid_post"
    *modules, last = inside.split(".")
    if modules and last.removeprefix("hook_") in _LAST_LAYERS:
        return _kind(".".join(modules))
    return None if modules else _KINDS.get(last.removeprefix("hook_"))
