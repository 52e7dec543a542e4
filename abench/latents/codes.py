"""The codes of one SAE as sparse arrays, with the two poles of each latent kept separate."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, hstack
from torch import Tensor

from abench.errors import UserError
from abench.kernels.sparse_codes import SparseCodes
from abench.latents.active import active_codes
from abench.latents.anyones import usable
from abench.latents.decoding import output_gain, row_lengths
from abench.sae import SAE


@dataclass(frozen=True)
class PoleCodes:
    """One SAE's codes in units of the residual stream, pooled over tokens: sparse [texts, latents], float32.

    A text's mean codes are `positive − negative`; both are ≥ 0, one for each pole of the same latents.
    """

    positive: csr_array
    negative: csr_array | None
    """None if no code was negative."""

    def __repr__(self) -> str:
        signs = "no negative codes" if self.negative is None else "both signs"
        return f"PoleCodes({self.positive.shape[0]} texts, {self.latents} latents, {signs})"

    @property
    def latents(self) -> int:
        return int(self.positive.shape[1])

    def means(self, texts: Any = slice(None)) -> tuple[Tensor, Tensor]:
        """The mean of each pole over the given texts (an index): two tensors [latents] in float64."""
        positive = _mean(self.positive[texts])
        negative = torch.zeros_like(positive) if self.negative is None else _mean(self.negative[texts])
        return positive, negative

    def columns(self, latents: Any, texts: Any = slice(None)) -> Tensor:
        """The signed mean codes of the given latents: dense [texts, latents given] in float32."""
        dense = self.positive[texts][:, latents].toarray()
        if self.negative is not None:
            dense = dense - self.negative[texts][:, latents].toarray()
        return torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32))

    def split(self) -> "PoleCodes":
        """The same codes of the SAE in the split view, positive poles first."""
        if self.negative is None:
            empty = csr_array(self.positive.shape, dtype=np.float32)
            return PoleCodes(csr_array(hstack([self.positive, empty], format="csr")), None)
        return PoleCodes(csr_array(hstack([self.positive, self.negative], format="csr")), None)


@dataclass(frozen=True)
class PoleRates:
    """The share of tokens on which each pole of each latent fires, [latents] in float64."""

    positive: Tensor
    negative: Tensor

    def __repr__(self) -> str:
        up, down = self.positive > 0, self.negative > 0
        both, dead = int((up & down).sum()), int((~(up | down)).sum())
        return f"PoleRates({len(self.positive)} latents: {dead} never fire, {both} fire with both signs)"

    def split(self) -> "PoleRates":
        """The same rates of the SAE in the split view."""
        both = torch.cat([self.positive, self.negative])
        return PoleRates(both, torch.zeros_like(both))


def sparse_codes(sae: SAE, x: Tensor) -> csr_array:
    """An SAE's codes of activations x [tokens, d_in], as a sparse array [tokens, latents] in float32.

    The values are those of `residual_codes(sae, x)`, in units of the residual stream; faster if few latents
    are active.
    """
    sae = usable(sae)
    return residual_csr(sae, x.to(sae.device))


def residual_csr(sae: SAE, x: Tensor) -> csr_array:
    """The non-zero codes in units of the residual stream, as a sparse array [tokens, latents]."""
    codes = active_codes(sae, x)
    gain, lengths = output_gain(sae, x), row_lengths(sae)
    values = codes.values
    if gain is not None:
        values = values * gain.float().flatten().repeat_interleave(codes.offsets.diff())
    if lengths is not None:
        values = values * codes.spread(lengths.float())
    return _csr(codes, values)


def _csr(codes: SparseCodes, values: Tensor) -> csr_array:
    parts = (values, codes.columns, codes.offsets)
    shape = (len(codes.offsets) - 1, codes.width)
    return csr_array(tuple(part.cpu().numpy() for part in parts), shape=shape)


def _mean(rows: csr_array) -> Tensor:
    if rows.shape[0] == 0:
        raise UserError("there are no texts to average over")
    sums: Tensor = torch.from_numpy(np.asarray(rows.sum(axis=0, dtype=np.float64))).reshape(-1)
    return sums / int(rows.shape[0])
