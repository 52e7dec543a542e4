"""SAEs of any class: an object with `encode`, `decode` and `W_dec` as an `abench.SAE`.

Nothing else is required of the object. What abench needs beyond that is found out by calling it: the sizes,
and how a code moves the reconstruction (`abench.latents.decoder_of`).
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abench.errors import UserError
from abench.latents.calling import decoded, encoded, name_of
from abench.latents.decoder_of import Decoder, decoder_of
from abench.latents.views import SplitSAE

_REQUIRED = {
    "encode": "encode(x), which gives codes [tokens, latents] of activations [tokens, d_in]",
    "decode": "decode(codes), which gives reconstructions [tokens, d_in] of codes [tokens, latents]",
    "W_dec": "W_dec, a tensor [latents, d_in] with one row for each latent",
}
_TOKENS = 8
"""Number of random activations on which an object is tried out."""
_SAME = 1e-3
"""Relative difference up to which two encodings of the same activations count as equal: matrix products on a
GPU may round differently from call to call."""


@dataclass
class Sizes:
    """The configuration of an SAE of any class: its sizes, and the meaning of its codes."""

    d_in: int
    d_sae: int
    rescale_acts_by_decoder_norm: bool = False
    """Whether a code is the length by which it moves the reconstruction, for decoder rows of any norm."""


class AnyonesSAE:
    """An object with `encode`, `decode` and `W_dec` as an SAE; made by `as_sae`.

    Activations and codes of any leading shape are passed to the object as [tokens, …], on the device and in
    the dtype of its W_dec. Codes that are not finite raise UserError. As a key of a dict it is equal to its
    object. It has `W_enc` and `b_dec` if its object has them.
    """

    def __init__(self, wrapped: Any, cfg: Sizes, decoder: Decoder, signed: bool | None) -> None:
        self.wrapped = wrapped
        """The object."""
        self.cfg = cfg
        self.signed = signed
        """Whether codes can be negative; None if that is unknown (see `abench.latents.signedness`)."""
        self._decoder = decoder

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what is unusual in how the object decodes."""
        return self._decoder.notes

    @property
    def linear(self) -> bool:
        """Whether the reconstruction is linear in the codes, up to an offset, on the codes tried out."""
        return self._decoder.linear

    @property
    def W_dec(self) -> Tensor:  # noqa: N802 - sae-lens's name
        """[latents, d_in], without gradients."""
        rows: Tensor = self.wrapped.W_dec if self._decoder.rows is None else self._decoder.rows
        return rows.detach()

    @property
    def device(self) -> torch.device:
        device: torch.device = self.wrapped.W_dec.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.wrapped.W_dec.dtype
        return dtype

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Codes [..., latents] of activations [..., d_in].

        Raises UserError for codes of another shape, and for codes that are not finite.
        """
        codes = encoded(self.wrapped, self._flat(x), self.cfg.d_sae)
        if not bool(codes.sum(dtype=torch.float32).isfinite()):
            bad = ~codes.isfinite().all(dim=-1)
            if bool(bad.any()):
                found = f"codes that are not finite on {int(bad.sum())} of {len(bad)} activations"
                raise UserError(f"{name_of(self.wrapped)} gives {found}")
        return codes.reshape(*x.shape[:-1], self.cfg.d_sae)

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions [..., d_in] of codes [..., latents]; gradients reach the codes.

        Raises UserError for reconstructions of another shape.
        """
        x_hat = decoded(self.wrapped, self._flat(codes), self.cfg.d_in)
        return x_hat.reshape(*codes.shape[:-1], self.cfg.d_in)

    def output_gain(self, x: Tensor) -> Tensor | None:
        """The factor [..., 1] of what decoded codes of activations x [..., d_in] add; None for 1."""
        gain = self._decoder.gain(self.wrapped, self._flat(x))
        return None if gain is None else gain.reshape(*x.shape[:-1], 1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def __eq__(self, other: object) -> bool:
        return self.wrapped is (other.wrapped if isinstance(other, AnyonesSAE) else other)

    def __hash__(self) -> int:
        # Equal objects must have equal hashes, and this is equal to its object.
        return hash(self.wrapped) if isinstance(self.wrapped, Hashable) else id(self.wrapped)

    def __repr__(self) -> str:
        kind = type(self.wrapped).__qualname__
        return f"AnyonesSAE({kind}: {self.cfg.d_sae} latents, d_in {self.cfg.d_in})"

    def __getattr__(self, name: str) -> Any:
        if name in ("W_enc", "b_dec"):
            return getattr(self.wrapped, name)
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")

    def _flat(self, values: Tensor) -> Tensor:
        return values.reshape(-1, values.shape[-1]).to(self.device, self.dtype)


def is_known_object(sae: Any) -> bool:
    """Whether an object is an SAE of sae-lens or of abench, which `as_sae` returns unchanged."""
    if isinstance(sae, AnyonesSAE | SplitSAE):
        return True
    from sae_lens import SAE, TrainingSAE

    return isinstance(sae, SAE | TrainingSAE)


def usable(sae: Any) -> Any:
    """An SAE with all that abench's own functions use of one: itself, or what `as_sae` makes of it."""
    sizes = getattr(sae, "cfg", None)
    complete = all(hasattr(sizes, name) for name in ("d_in", "d_sae"))
    return sae if complete and hasattr(sae, "device") and hasattr(sae, "dtype") else as_sae(sae)


def as_sae(obj: Any, *, signed: bool | None = None) -> Any:
    """Any object with `encode`, `decode` and `W_dec` as an SAE; those of sae-lens and abench are returned.

    The object is tried out on a few random activations. `signed` states whether its codes can be negative;
    None leaves that open. Raises UserError, with a sentence, for an object without one of the three, for
    shapes that do not fit (among them a transposed W_dec), for weights or codes that are not finite, for an
    `encode` or `decode` that raises, and for an `encode` that gives different codes for equal activations.
    """
    if is_known_object(obj):
        return obj
    weights = _checked_weights(obj)
    with torch.no_grad():
        x, codes = _tried(obj, weights)
        cfg = Sizes(x.shape[1], codes.shape[1])
        decoder = decoder_of(obj, x, weights)
    cfg.rescale_acts_by_decoder_norm = decoder.rescaled
    return AnyonesSAE(obj, cfg, decoder, signed)


def _checked_weights(obj: Any) -> Tensor:
    """The object's W_dec; raises UserError if it is not one or if something else is missing."""
    if isinstance(obj, type):
        raise UserError(f"{obj.__name__} is a class, not an SAE: give an object of it")
    missing = [what for name, what in _REQUIRED.items() if getattr(obj, name, None) is None]
    if missing:
        raise UserError(f"{name_of(obj)} is not an SAE: it has no {'; no '.join(missing)}")
    weights = obj.W_dec
    if not isinstance(weights, Tensor) or weights.ndim != 2 or not weights.is_floating_point():
        what = (
            f"{weights.dtype} {list(weights.shape)}"
            if isinstance(weights, Tensor)
            else type(weights).__name__
        )
        raise UserError(
            f"the W_dec of {name_of(obj)} must be a floating-point tensor [latents, d_in], not {what}"
        )
    if not bool(weights.isfinite().all()):
        raise UserError(f"the W_dec of {name_of(obj)} has values that are not finite")
    return weights.detach()


def _tried(obj: Any, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Random activations and their codes; raises UserError if the object does not encode or decode them."""
    latents, d_in = weights.shape
    x = _random(d_in, weights)
    try:
        codes = encoded(obj, x, latents)
        decoded(obj, codes, d_in)
    except UserError as error:
        if _works(obj, _random(latents, weights), latents=d_in, d_in=latents):
            raise _transposed(obj, weights) from None
        raise error
    if not bool(codes.isfinite().all()):
        raise UserError(f"{name_of(obj)} gives codes that are not finite for random activations")
    again = encoded(obj, x, latents)
    if float((again - codes).float().norm()) > _SAME * float(codes.float().norm()):
        raise UserError(
            f"{name_of(obj)} gives different codes for the same activations: turn off what is random in it, "
            "such as dropout (for a module: call eval())"
        )
    if latents == d_in and decoder_of(obj, x, weights).transposed:
        raise _transposed(obj, weights)
    return x, codes


def _random(d_in: int, like: Tensor) -> Tensor:
    """Activations [8, d_in] of different means and norms."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.5, 8.0, _TOKENS)[:, None]
    x = torch.randn(_TOKENS, d_in, generator=generator) * spread + 0.3 * spread.flip(0)
    return x.to(like.device, like.dtype)


def _works(obj: Any, x: Tensor, *, latents: int, d_in: int) -> bool:
    try:
        decoded(obj, encoded(obj, x, latents), d_in)
    except UserError:
        return False
    return True


def _transposed(obj: Any, weights: Tensor) -> UserError:
    return UserError(
        f"the W_dec of {name_of(obj)} is transposed: it is [d_in, latents] = {list(weights.shape)}, but "
        "must be [latents, d_in]; give W_dec.T"
    )
