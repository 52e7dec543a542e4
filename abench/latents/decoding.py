"""The one module that knows the unit of an SAE's codes, and what a code contributes when it is decoded.

The codes of an SAE that standardises or rescales each token are in units of that token's spread, and codes
also depend on the norms of the decoder's rows. A code in units of the residual stream depends on neither: it
is the length by which the latent moves the reconstruction along its decoder row. Thresholds, clamps, means
over tokens and rankings use this unit, so that the same function in other units gets the same scores.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from abench.latents.anyones import usable
from abench.latents.views import SplitSAE, base_of
from abench.sae import SAE
from abench.variants.normalisation import input_normalisation

_ROUNDING = 1e-5
"""Tolerance for norms of 1. Decoder rows are normalised when an SAE is saved; within the tolerance a norm
counts as 1, so that the codes of such an SAE are not changed by a single bit."""

Latents = Sequence[int] | Tensor | slice
_ALL = slice(None)


def normalises_tokens(sae: SAE) -> bool:
    """Whether an SAE standardises or rescales each token before encoding."""
    return input_normalisation(sae) in ("layer_norm", "constant_norm_rescale")


def output_gain(sae: SAE, x: Tensor) -> Tensor | None:
    """The factor [..., 1] that sae-lens applies to decoded codes of activations [..., d_in]; None for 1.

    An SAE that standardises or rescales each token undoes this when it decodes. The factor is 0 for a token
    without spread. Of an SAE of an unknown class it is measured.
    """
    sae = usable(sae)
    if (measured := getattr(base_of(sae), "output_gain", None)) is not None:
        gain: Tensor | None = measured(x)
        return gain
    kind = input_normalisation(sae)
    if kind == "layer_norm":
        return x.std(dim=-1, keepdim=True)
    if kind == "constant_norm_rescale":
        norm: Tensor = x.norm(dim=-1, keepdim=True)
        return norm * float(x.shape[-1] ** -0.5)
    return None


def code_unit(sae: SAE, x: Tensor, latents: Latents = _ALL) -> Tensor | None:
    """The length by which a code of 1 moves the reconstruction of x [..., d_in]: [..., latents given].

    The result broadcasts to that shape; None if it is 1 for all. A code multiplied by it is in units of the
    residual stream.
    """
    sae = usable(sae)
    gain, lengths = output_gain(sae, x), row_lengths(sae, latents)
    if gain is None or lengths is None:
        return lengths if gain is None else gain
    return gain * lengths


def in_residual_units(sae: SAE, x: Tensor, codes: Tensor, latents: Latents = _ALL) -> Tensor:
    """An SAE's codes [..., latents given] of activations x [..., d_in], in units of the residual stream.

    The latents add codes · `latent_directions(sae, latents)` to the reconstruction.
    """
    unit = code_unit(sae, x, latents)
    return codes if unit is None else codes * unit


def from_residual_units(sae: SAE, x: Tensor, codes: Tensor) -> Tensor:
    """Codes [..., latents] for `sae.decode` from codes in units of the residual stream, after encoding x.

    The inverse of `in_residual_units`. 0 where a latent cannot contribute: for a decoder row of zeros, and on
    a token without spread, which an SAE that standardises tokens decodes to itself.
    """
    unit = code_unit(usable(sae), x)
    if unit is None:
        return codes
    return torch.where(unit > 0, codes / torch.where(unit > 0, unit, 1.0), 0.0)


def residual_codes(sae: SAE, x: Tensor) -> Tensor:
    """An SAE's codes of activations x [..., d_in] in units of the residual stream, [..., latents].

    Latent i adds its code times row i of `latent_directions(sae)` to the reconstruction. These codes are
    comparable across tokens, latents and SAEs, whether or not the SAE normalises its input and for decoder
    rows of any norm. Equal to `sae.encode(x)` for an SAE without normalisation and with unit decoder rows.
    """
    sae = usable(sae)
    return in_residual_units(sae, x, sae.encode(x.to(sae.dtype)))


def latent_directions(sae: SAE, latents: Latents = _ALL) -> Tensor:
    """Unit directions along which latents move the residual stream, [latents given, d_in].

    Decoder rows of zeros stay zero.
    """
    rows = _rows(usable(sae), latents)
    norms = _norms(rows)
    return rows if norms is None else rows / torch.where(norms > 0, norms, 1.0)[:, None]


def row_lengths(sae: SAE, latents: Latents = _ALL) -> Tensor | None:
    """How far a code of 1 moves the reconstruction before `output_gain`, [latents given]; None for all 1."""
    # The codes of such an SAE are lengths already: its decoder divides rows by their norms.
    rescaled = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    return None if rescaled else _norms(_rows(sae, latents))


def _norms(rows: Tensor) -> Tensor | None:
    """The norms [n] of rows [n, d_in]; None if all are 1 up to rounding."""
    norms: Tensor = rows.norm(dim=-1)
    norms = torch.where((norms - 1).abs() <= _ROUNDING, 1.0, norms)
    return None if bool((norms == 1).all()) else norms


def _rows(sae: SAE, latents: Latents) -> Tensor:
    """The decoder's rows, [latents given, d_in]."""
    if isinstance(sae, SplitSAE):
        # Not from W_dec of twice the width, which would be materialised at every call.
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
