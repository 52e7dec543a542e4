"""Latents in a random order that depends neither on their order nor on their signs and units."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Marks = Any
"""One number per latent or pole, by which it is recognised: a float64 array."""


def projections(decoder: Tensor, seed: int) -> Marks:
    """The projections of unit decoder directions onto a random one, float64 [latents].

    `decoder` is W_dec, [latents, d_in]. The opposite direction has the opposite number.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(decoder.shape[1], generator=generator, dtype=torch.float64)
    # In double precision, so that rows that differ only in length give the same number.
    rows = decoder.detach().cpu().double()
    # `+ 0.0` turns −0.0 into 0.0.
    return ((rows * direction).sum(1) / rows.norm(dim=1).clamp_min(1e-300)).numpy() + 0.0


def digest(mark: float, purpose: bytes = b"") -> bytes:
    """Eight bytes that stand for a latent or pole with this mark, and for a purpose."""
    import numpy as np

    return blake2b(np.float32(mark).tobytes() + purpose, digest_size=8).digest()


def in_order(marks: Marks) -> list[int]:
    """The indices of the marks in a random order that depends only on the marks."""
    digests = [digest(mark) for mark in marks]
    return sorted(range(len(digests)), key=lambda latent: (digests[latent], latent))


def drawn(decoder: Tensor, seed: int) -> list[int]:
    """All latents in a random order that depends only on their decoder directions, up to sign and length.

    `decoder` is W_dec, [latents, d_in]. The order and the signs of latents and the units of their codes do
    not matter.
    """
    return in_order(abs(projections(decoder, seed)))
