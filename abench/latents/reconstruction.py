"""Reconstructing activations without a dense tensor of codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abench.latents.active import active_codes, firings, is_known, many_are_active
from abench.latents.anyones import usable
from abench.latents.decoding import normalises_tokens
from abench.latents.parts import dense_parts
from abench.sae import SAE


@dataclass(frozen=True)
class Reconstruction:
    """The reconstruction of activations [tokens, d_in]."""

    x_hat: Tensor
    """[tokens, d_in], float32."""
    positive: Tensor
    """Number of tokens on which each latent is positive, [latents]."""
    negative: Tensor
    """Number of tokens on which each latent is negative, [latents]."""

    def __repr__(self) -> str:
        return f"Reconstruction({len(self.x_hat)} activations, {len(self.positive)} latents)"


@torch.no_grad()
def reconstruct(sae: SAE, x: Tensor) -> Reconstruction:
    """`sae.decode(sae.encode(x))` for activations x [tokens, d_in], and how often each latent fires.

    Equal up to rounding. Codes stay sparse if few latents are active and the SAE's encoder and decoder are
    known; otherwise the SAE's own `encode` and `decode` are used.
    """
    sae = usable(sae)
    if not _decodes_plainly(sae) or many_are_active(sae, x):
        return _joined([_dense(sae, part) for part in dense_parts(sae, x)])
    return _sparse(sae, x)


def _sparse(sae: Any, x: Tensor) -> Reconstruction:
    """`reconstruct` for an SAE of a known class, which has a bias to add."""
    found = active_codes(sae, x)
    values = found.values
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        values = values / found.spread(sae.W_dec.norm(dim=-1))
    return Reconstruction(found.decode(values, sae.W_dec).add_(sae.b_dec), *firings(found))


def _dense(sae: Any, x: Tensor) -> Reconstruction:
    codes = sae.encode(x)
    codes = codes.to_dense() if codes.is_sparse else codes
    return Reconstruction(sae.decode(codes).float(), (codes > 0).sum(0), (codes < 0).sum(0))


def _joined(parts: Sequence[Reconstruction]) -> Reconstruction:
    positive, negative = (
        sum(each[1:], each[0]) for each in zip(*((p.positive, p.negative) for p in parts), strict=True)
    )
    return Reconstruction(torch.cat([part.x_hat for part in parts]), positive, negative)


def _decodes_plainly(sae: Any) -> bool:
    """Whether decoding is just the product with W_dec plus b_dec."""
    if not is_known(sae) or sae.dtype != torch.float32 or "decode" in vars(sae):
        return False
    hooks = sae.hook_sae_recons
    hooked = bool(hooks._forward_hooks or hooks._forward_pre_hooks)
    return not hooked and not sae.hook_z_reshaping_mode and not normalises_tokens(sae)
