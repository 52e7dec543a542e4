"""The two views of an SAE with signed codes, and a wrapper for the second.

`native`: a latent is one unit with two poles. `split`: each (latent, sign) pair is a unit; this is the SAE
with the dictionary [D, −D] and the activations relu([z, −z]). It computes the same function but is
non-negative, so evaluations designed for non-negative SAEs apply. A task whose native results do not change
when a latent's sign is flipped needs no extra code for the split view: it receives the wide SAE.
"""

from copy import copy
from typing import Any

import torch
from torch import Tensor

from abench.sae import SAE
from abench.task import View


class SplitSAE:
    """A signed SAE as a non-negative SAE with twice the latents: positive poles first, then negative."""

    def __init__(self, base: Any) -> None:
        # An object of an unknown class; anyones.py itself needs this class.
        from abench.latents.anyones import usable

        self.base = base = usable(base)
        """The signed SAE."""
        self.cfg = copy(base.cfg)
        self.cfg.d_sae = 2 * base.cfg.d_sae

    @property
    def W_enc(self) -> Tensor:  # noqa: N802 - sae-lens's name
        """[d_in, 2 · latents]."""
        return torch.cat([self.base.W_enc, -self.base.W_enc], dim=1)

    @property
    def W_dec(self) -> Tensor:  # noqa: N802 - sae-lens's name
        """[2 · latents, d_in]."""
        return torch.cat([self.base.W_dec, -self.base.W_dec])

    @property
    def b_dec(self) -> Tensor:
        """[d_in]."""
        bias: Tensor = self.base.b_dec
        return bias

    @property
    def device(self) -> torch.device:
        device: torch.device = self.base.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.base.dtype
        return dtype

    def encode(self, x: Tensor) -> Tensor:
        """Non-negative codes [..., 2 · latents] of activations [..., d_in]."""
        return split_codes(self.base.encode(x))

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions [..., d_in] of codes [..., 2 · latents]."""
        positive, negative = codes.chunk(2, dim=-1)
        decoded: Tensor = self.base.decode(positive - negative)
        return decoded

    def __repr__(self) -> str:
        return f"SplitSAE({type(self.base).__name__}: 2 · {self.base.cfg.d_sae} latents)"

    def __call__(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def split_codes(codes: Tensor) -> Tensor:
    """relu([z, −z]): signed codes [..., latents] as non-negative codes [..., 2 · latents]."""
    return torch.cat([codes.clamp_min(0), (-codes).clamp_min(0)], dim=-1)


def in_view(sae: SAE, view: View) -> Any:
    """The SAE as a task receives it in a view."""
    return SplitSAE(sae) if view == "split" else sae


def base_of(sae: SAE) -> Any:
    """The underlying SAE, without the wrapper of the split view."""
    return sae.base if isinstance(sae, SplitSAE) else sae
