"""Signed SAEs for tests: random ones, ones with flipped latents, and the wide SAE a split view stands for."""

from typing import Any

import torch

from abench.variants import SAEShape, get_variant


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


def flipped(sae: Any, seed: int = 0) -> Any:
    """The same function with the sign of half of its latents turned in encoder and decoder."""
    from copy import deepcopy

    sign = torch.randint(0, 2, (sae.cfg.d_sae,), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    other = deepcopy(sae)
    with torch.no_grad():
        other.W_enc *= sign
        other.b_enc *= sign
        other.W_dec *= sign[:, None]
    return other


def permuted(sae: Any, seed: int = 0) -> Any:
    """The same function with its latents in another order."""
    from copy import deepcopy

    order = torch.randperm(sae.cfg.d_sae, generator=torch.Generator().manual_seed(seed))
    other = deepcopy(sae)
    with torch.no_grad():
        other.W_enc.copy_(sae.W_enc[:, order])
        other.b_enc.copy_(sae.b_enc[order])
        other.W_dec.copy_(sae.W_dec[order])
    return other


class WideSAE:
    """An explicit [D, −D] SAE, written independently of abench.views: relu of both signs of each code."""

    def __init__(self, sae: Any) -> None:
        from types import SimpleNamespace

        self._sae = sae
        self.W_dec = torch.cat([sae.W_dec, -sae.W_dec])
        self.W_enc = torch.cat([sae.W_enc, -sae.W_enc], dim=1)
        self.b_dec, self.device, self.dtype = sae.b_dec, sae.device, sae.dtype
        self.cfg = SimpleNamespace(d_in=sae.cfg.d_in, d_sae=2 * sae.cfg.d_sae)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        z = self._sae.encode(x)
        return torch.cat([torch.relu(z), torch.relu(-z)], dim=-1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes @ self.W_dec + self.b_dec
