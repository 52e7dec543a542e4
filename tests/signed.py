"""Signed SAEs for tests: random ones, and the same functions written otherwise (abench/rewritten.py)."""

from typing import Any

import torch

from abench.conformance.rewritten import Wide as WideSAE
from abench.conformance.rewritten import flipped, permuted
from abench.variants import SAEShape, get_variant

__all__ = ["WideSAE", "flipped", "permuted", "random_sae"]


def random_sae(
    variant: str = "abstopk", *, d_in: int = 128, width: int = 256, k: int = 8, seed: int = 0
) -> Any:
    """An SAE with random weights and unit decoder rows, as inference sees it; encoder and decoder differ."""
    generator = torch.Generator().manual_seed(seed)
    sae = get_variant(variant, {}).build(SAEShape(d_in, width, k), seed=seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name in {"W_enc", "W_dec", "b_dec"}:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
                )
        sae.W_dec /= sae.W_dec.norm(dim=-1, keepdim=True)
    return sae.eval().requires_grad_(False)
