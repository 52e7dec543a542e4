"""The one place that knows in which unit an SAE's codes are, and what a code adds when it is decoded.

An SAE that standardises or rescales each token gives codes in units of that token's spread, and codes also
depend on how long the decoder's rows are. A code in units of the residual stream does not: it is the length
by which the latent moves what is decoded, along its decoder row. Thresholds, clamps, means over tokens and
rankings are taken of those, so that the same function written in other units gets the same scores.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from abench.views import SplitSAE

_ROUNDING = 1e-5
"""Rows are folded to norm 1 when an SAE is saved; a norm this close to 1 counts as 1, so that the codes of
such an SAE keep every bit."""

Latents = Sequence[int] | Tensor | slice
_ALL = slice(None)


def normalises_tokens(sae: Any) -> bool:
    """Whether an SAE standardises or rescales each token before it encodes."""
    return input_normalisation(sae) in ("layer_norm", "constant_norm_rescale")


def output_gain(sae: Any, x: Tensor) -> Tensor | None:
    """What sae-lens multiplies decoded codes of activations [..., d_in] with, [..., 1]; None for nothing.

    An SAE that standardises or rescales each token undoes that when it decodes. 0 for a token without spread.
    """
    kind = input_normalisation(sae)
    if kind == "layer_norm":
        return x.std(dim=-1, keepdim=True)
    if kind == "constant_norm_rescale":
        norm: Tensor = x.norm(dim=-1, keepdim=True)
        return norm * float(x.shape[-1] ** -0.5)
    return None


def input_normalisation(sae: Any) -> str:
    """What an SAE does to activations before it encodes, in sae-lens's word: `none` for nothing."""
    kind: str = getattr(sae.cfg, "normalize_activations", "none")
    return kind


def defined_at_zero(sae: Any) -> Any:
    """The SAE, which from now on is finite at a token of norm 0: the token is encoded as it is, decoded to 0.

    That is where `output_gain` is 0, too. Of an SAE that brings every token to one norm sae-lens divides by
    the token's norm, which gives codes that are not a number. Nothing changes for any other token or SAE.
    """
    if input_normalisation(sae) == "constant_norm_rescale":
        rescaling = _Rescaling()
        sae.run_time_activation_norm_fn_in = rescaling.before_encoding
        sae.run_time_activation_norm_fn_out = rescaling.after_decoding
    return sae


class _Rescaling:
    """Brings tokens to the norm √d_in and back, as sae-lens does, with the same rounding."""

    _factor: Tensor

    def before_encoding(self, x: Tensor) -> Tensor:
        """Activations [..., d_in] with the norm √d_in; those of norm 0 stay 0."""
        self._factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
        return x * torch.where(self._factor.isinf(), 0.0, self._factor)

    def after_decoding(self, x: Tensor) -> Tensor:
        """Reconstructions [..., d_in] of what was encoded last, with its norm; 0 for a norm of 0."""
        factor = self._factor
        del self._factor  # what is decoded without having been encoded is an error, as in sae-lens
        return x / factor  # by infinity for a norm of 0


def code_unit(sae: Any, x: Tensor, latents: Latents = _ALL) -> Tensor | None:
    """How far a code of 1 moves the decoding of activations x [..., d_in], [..., latents given].

    Broadcasts to that shape; None where it is 1 for all. A code times it is in units of the residual stream.
    """
    gain, lengths = output_gain(sae, x), row_lengths(sae, latents)
    if gain is None or lengths is None:
        return lengths if gain is None else gain
    return gain * lengths


def in_residual_units(sae: Any, x: Tensor, codes: Tensor, latents: Latents = _ALL) -> Tensor:
    """Codes [..., latents given] that an SAE gave for activations x [..., d_in], as lengths.

    The latents add codes · `latent_directions(sae, latents)` to what is decoded.
    """
    unit = code_unit(sae, x, latents)
    return codes if unit is None else codes * unit


def from_residual_units(sae: Any, x: Tensor, codes: Tensor) -> Tensor:
    """The codes [..., latents] with which `sae.decode` adds given lengths, after encoding x [..., d_in].

    The inverse of `in_residual_units`. 0 where a latent cannot add anything: for a row of zeros, and at a
    token without spread, which an SAE that standardises tokens decodes to itself.
    """
    unit = code_unit(sae, x)
    if unit is None:
        return codes
    return torch.where(unit > 0, codes / torch.where(unit > 0, unit, 1.0), 0.0)


def residual_codes(sae: Any, x: Tensor) -> Tensor:
    """An SAE's codes of activations x [..., d_in] in units of the residual stream, [..., latents].

    Latent i adds its code times row i of `latent_directions(sae)` to what is decoded: codes of SAEs that
    normalise their input, and of decoders with rows of any length, can be compared over tokens, latents and
    SAEs. Equal to `sae.encode(x)` for an SAE that does not normalise and has decoder rows of norm 1.
    """
    return in_residual_units(sae, x, sae.encode(x.to(sae.dtype)))


def latent_directions(sae: Any, latents: Latents = _ALL) -> Tensor:
    """Directions along which latents move the residual stream, [latents given, d_in], of norm 1.

    Rows of zeros stay zero.
    """
    rows = _rows(sae, latents)
    norms = _norms(rows)
    return rows if norms is None else rows / torch.where(norms > 0, norms, 1.0)[:, None]


def row_lengths(sae: Any, latents: Latents = _ALL) -> Tensor | None:
    """How far a code of 1 moves the decoding before `output_gain`, [latents given]; None where 1 for all."""
    # Of such an SAE codes are lengths already: its decoder divides rows by their norms.
    rescaled = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    return None if rescaled else _norms(_rows(sae, latents))


def _norms(rows: Tensor) -> Tensor | None:
    """Norms of rows [n, d_in], [n]; None where all are 1 up to rounding."""
    norms: Tensor = rows.norm(dim=-1)
    norms = torch.where((norms - 1).abs() <= _ROUNDING, 1.0, norms)
    return None if bool((norms == 1).all()) else norms


def _rows(sae: Any, latents: Latents) -> Tensor:
    """The decoder's rows, [latents given, d_in]."""
    if isinstance(sae, SplitSAE):
        # Without the decoder of twice the width, which would be written down at every call.
        width = int(sae.base.cfg.d_sae)
        if isinstance(latents, slice):
            rows: Tensor = sae.W_dec[latents]
            return rows
        places = [int(latent) for latent in latents]
        signs = sae.base.W_dec.new_tensor([1.0 if place < width else -1.0 for place in places])
        poles: Tensor = _rows(sae.base, [place % width for place in places]) * signs[:, None]
        return poles
    if not isinstance(latents, slice | Tensor):
        places = list(latents)
        latents = slice(places[0], places[0] + 1) if len(places) == 1 else places  # one row is a view
    chosen: Tensor = sae.W_dec[latents]
    return chosen
