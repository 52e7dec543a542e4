"""What an SAE makes of activations, without writing down the latents that are zero."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abench.decoding import normalises_tokens


@dataclass(frozen=True)
class Reconstruction:
    """Of activations [tokens, d_in]."""

    x_hat: Tensor
    """[tokens, d_in], float32."""
    positive: Tensor
    """On how many tokens each latent is above zero, [latents]."""
    negative: Tensor
    """On how many it is below."""


@torch.no_grad()
def reconstruct(sae: Any, x: Tensor) -> Reconstruction:
    """`sae.decode(sae.encode(x))` for activations x [tokens, d_in], and how often each latent fires.

    The same up to rounding. The codes are kept sparse where few latents are active and the SAE is one whose
    encoder and decoder are known; any other is asked itself.
    """
    # sae_lens takes seconds to import, and who only lists the tasks does not need it.
    from abench.active import active_codes, firings, many_are_active

    if not _decodes_plainly(sae) or many_are_active(sae, x):
        codes = sae.encode(x)
        codes = codes.to_dense() if codes.is_sparse else codes
        return Reconstruction(sae.decode(codes).float(), (codes > 0).sum(0), (codes < 0).sum(0))
    found = active_codes(sae, x)
    values = found.values
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        values = values / found.spread(sae.W_dec.norm(dim=-1))
    return Reconstruction(found.decode(values, sae.W_dec).add_(sae.b_dec), *firings(found))


def _decodes_plainly(sae: Any) -> bool:
    """Whether decoding is the product with W_dec plus b_dec, and nothing else."""
    from abench.active import is_known

    if not is_known(sae) or sae.dtype != torch.float32 or "decode" in vars(sae):
        return False
    hooks = sae.hook_sae_recons
    hooked = bool(hooks._forward_hooks or hooks._forward_pre_hooks)
    return not hooked and not sae.hook_z_reshaping_mode and not normalises_tokens(sae)
