"""How an SAE of an unknown class decodes: what a code of 1 adds, measured by calling its `decode`.

For most classes, decoding is the product with W_dec plus an offset. Others divide rows by their norms,
multiply all codes by a factor, or undo a normalisation of the activations that were encoded last. All of
these are linear in the codes: for activations x, decode(z) − decode(0) = gain(x) · z @ rows. Rows and gain
are found here from a few random codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from abench.latents.calling import decoded, encoded

_LARGEST_DEVIATION = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest relative deviation from linearity, by dtype; rounding stays far below it."""
_HALF_DEVIATION = 3e-2
"""The same for half precision."""
_CODES_AT_ONCE = 1 << 24
_PROBE = 1024.0
"""Size of the code with which a gain is measured: large, so that it is not lost in the offset's rounding."""

Gain = Callable[[Any, Tensor], Tensor | None]


def no_gain(_obj: Any, _x: Tensor) -> None:
    """The gain of an SAE that decodes all codes alike."""


@dataclass(frozen=True)
class Decoder:
    """How codes become reconstructions."""

    rows: Tensor | None = None
    """What a code of 1 adds at a gain of 1, [latents, d_in]; None for the object's W_dec."""
    rescaled: bool = False
    """Whether rows are divided by their norms before they are added."""
    gain: Gain = no_gain
    """The factor [tokens, 1] of activations [tokens, d_in], given the object; None for 1."""
    linear: bool = True
    transposed: bool = False
    """Whether W_dec has one column per latent, where it is square."""
    notes: tuple[str, ...] = ()


def decoder_of(obj: Any, x: Tensor, weights: Tensor) -> Decoder:
    """Measure how an object decodes, on random activations x [tokens, d_in] that it can encode.

    `weights` is its W_dec, [latents, d_in].
    """
    probe = _Probe.of(obj, x, weights.shape[0])
    gain = probe.gain(weights)
    if gain is not None:
        return _with_gain(Decoder(), gain, x, weights)
    if weights.shape[0] == weights.shape[1] and probe.gain(weights.T) is not None:
        return Decoder(transposed=True)
    norms = weights.float().norm(dim=-1, keepdim=True)
    unit = (weights / torch.where(norms > 0, norms, 1.0)).to(weights.dtype)
    gain = probe.gain(unit)
    if gain is not None:
        return _with_gain(Decoder(rescaled=True), gain, x, unit)
    measured = _measured_rows(obj, x[:1], len(weights))
    gain = probe.gain(measured)
    if gain is not None:
        note = (
            "its decode does not add the rows of W_dec, so directions are measured by decoding single codes"
        )
        return _with_gain(Decoder(rows=measured, notes=(note,)), gain, x, measured)
    note = "its reconstruction is not linear in its codes, so what single latents add is approximate"
    return Decoder(linear=False, notes=(note,))


@dataclass(frozen=True)
class _Probe:
    """Random codes [tokens, latents], what they add to the reconstructions, [tokens, d_in], in float32."""

    codes: Tensor
    added: Tensor
    tolerance: float

    @classmethod
    def of(cls, obj: Any, x: Tensor, latents: int) -> "_Probe":
        generator = torch.Generator().manual_seed(1)
        # Not negative, because an SAE without negative codes need not decode any.
        codes = torch.rand(len(x), latents, generator=generator).to(x.device, x.dtype)
        tolerance = _LARGEST_DEVIATION.get(x.dtype, _HALF_DEVIATION)
        return cls(codes, added(obj, x, codes).float(), tolerance)

    def gain(self, rows: Tensor) -> Tensor | None:
        """The factors [tokens, 1] by which codes @ rows is added; None if something else is added."""
        expected = (self.codes @ rows).float()
        squares = expected.square().sum(-1, keepdim=True)
        gain = (self.added * expected).sum(-1, keepdim=True) / torch.where(squares > 0, squares, 1.0)
        deviation = (self.added - gain * expected).norm(dim=-1)
        fits = deviation <= self.tolerance * self.added.norm(dim=-1) + torch.finfo(torch.float32).tiny
        return gain if bool(fits.all()) and bool(squares.any()) else None


def added(obj: Any, x: Tensor, codes: Tensor) -> Tensor:
    """What codes [tokens, latents] add to the reconstructions of activations x [tokens, d_in]."""
    # Encoded before each: some classes decode at the scale of what they encoded last, and only once.
    both = []
    for each in (codes, torch.zeros_like(codes)):
        encoded(obj, x, codes.shape[1])
        both.append(decoded(obj, each, x.shape[1]))
    return both[0] - both[1]


def _with_gain(decoder: Decoder, gain: Tensor, x: Tensor, rows: Tensor) -> Decoder:
    """The decoder with the gains [tokens, 1] found for activations x with these rows."""
    tolerance = _LARGEST_DEVIATION.get(x.dtype, _HALF_DEVIATION)
    if bool(((gain - 1).abs() <= tolerance).all()):
        return decoder
    if bool(((gain - gain.mean()).abs() <= tolerance * gain.mean().abs()).all()):
        scaled = (rows.float() * gain.mean()).to(rows.dtype)
        return Decoder(rows=scaled, notes=decoder.notes)
    for known in (_spread, _scaled_norm):
        if bool(((gain - known(None, x.float())).abs() <= tolerance * gain.abs()).all()):
            return Decoder(decoder.rows, decoder.rescaled, known, notes=decoder.notes)
    probe = int(rows.float().norm(dim=-1).argmax())
    measure = partial(_measured_gain, row=rows[probe].float(), latent=probe, latents=len(rows))
    note = "what its codes add depends on the token, which is measured by encoding tokens three times more"
    return Decoder(decoder.rows, decoder.rescaled, measure, notes=(*decoder.notes, note))


def _spread(_obj: Any, x: Tensor) -> Tensor:
    """The gain of an SAE that standardises each token."""
    return x.std(dim=-1, keepdim=True)


def _scaled_norm(_obj: Any, x: Tensor) -> Tensor:
    """The gain of an SAE that rescales each token to the norm √d_in."""
    norm: Tensor = x.norm(dim=-1, keepdim=True) * float(x.shape[-1] ** -0.5)
    return norm


@torch.no_grad()
def _measured_gain(obj: Any, x: Tensor, *, row: Tensor, latent: int, latents: int) -> Tensor:
    codes = x.new_zeros(len(x), latents)
    codes[:, latent] = _PROBE
    moved = added(obj, x, codes).float()
    encoded(obj, x, latents)  # as the caller left it, so that codes of x can still be decoded
    gain: Tensor = (moved @ row / (_PROBE * row.square().sum())).to(x.dtype)[:, None]
    return gain


def _measured_rows(obj: Any, x: Tensor, latents: int) -> Tensor:
    """What a code of 1 of each latent adds to the reconstruction of an activation x [1, d_in]."""
    size = max(1, _CODES_AT_ONCE // latents)
    parts = []
    for start in range(0, latents, size):
        here = torch.arange(start, min(start + size, latents), device=x.device)
        codes = torch.nn.functional.one_hot(here, latents).to(x.dtype)
        parts.append(added(obj, x.expand(len(here), -1), codes))
    return torch.cat(parts)
