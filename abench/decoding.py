"""What an SAE's decoder does beside the product with its rows."""

from typing import Any

from torch import Tensor


def output_gain(sae: Any, x: Tensor) -> Tensor | None:
    """What sae-lens multiplies decoded codes of activations [..., d_in] with, [..., 1]; None for nothing.

    An SAE that standardises or rescales each token undoes that when it decodes.
    """
    kind = getattr(sae.cfg, "normalize_activations", "none")
    if kind == "layer_norm":
        return x.std(dim=-1, keepdim=True)
    if kind == "constant_norm_rescale":
        norm: Tensor = x.norm(dim=-1, keepdim=True)
        return norm * float(x.shape[-1] ** -0.5)
    return None
