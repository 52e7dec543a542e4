"""Normalisation of an SAE's input tokens, kept finite on tokens of norm 0."""

from typing import Any

import torch
from torch import Tensor


def input_normalisation(sae: Any) -> str:
    """How an SAE normalises activations before encoding, in sae-lens's terms; `none` if it does not."""
    kind: str = getattr(sae.cfg, "normalize_activations", "none")
    return kind


def defined_at_zero(sae: Any) -> Any:
    """Make the SAE finite on tokens of norm 0, which are encoded unchanged and decoded to 0; returns the SAE.

    This agrees with `output_gain`, which is 0 there. For SAEs that rescale every token to one norm, sae-lens
    divides by the token's norm, which gives NaN. Nothing changes for other tokens or SAEs.
    """
    if input_normalisation(sae) == "constant_norm_rescale":
        rescaling = _Rescaling()
        sae.run_time_activation_norm_fn_in = rescaling.before_encoding
        sae.run_time_activation_norm_fn_out = rescaling.after_decoding
    return sae


class _Rescaling:
    """Rescales tokens to the norm √d_in and back, as sae-lens does, with the same rounding."""

    _factor: Tensor

    def before_encoding(self, x: Tensor) -> Tensor:
        """Activations [..., d_in] rescaled to the norm √d_in; those of norm 0 stay 0."""
        self._factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
        return x * torch.where(self._factor.isinf(), 0.0, self._factor)

    def after_decoding(self, x: Tensor) -> Tensor:
        """Reconstructions [..., d_in] of the last encoded tokens, rescaled to their norms; 0 for norm 0."""
        factor = self._factor
        del self._factor  # decoding without encoding first is an error, as in sae-lens
        return x / factor  # by infinity for a norm of 0
