"""The entries of a batch's latents that matter for a training step, and the products that a step needs.

`SparseCodes` holds few entries in compressed rows, `DenseCodes` all of them, so that the mathematics of a
step is written once for both. "Values" are one number per entry: [entries] for the first, [tokens, width] for
the second. On the CPU, sums have a fixed order, so the same codes always give the same bits; triton_codes.py
does the same on a GPU.
"""

import warnings
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from abench.kernels.scratch import scratch, space

with warnings.catch_warnings():  # shown once per process; the few calls used here are stable
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
    torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1), check_invariants=False)


class Codes(Protocol):
    """The latents of a batch of tokens, at selected entries."""

    values: Tensor
    """The pre-activations."""

    def spread(self, vector: Tensor) -> Tensor:
        """One number per latent, [width], as values or as a tensor that broadcasts to values."""

    def decode(self, values: Tensor, weight: Tensor) -> Tensor:
        """values @ weight: [tokens, d] for a weight [width, d]."""

    def sample(self, rows: Tensor, weight: Tensor, *, name: str = "sampled") -> Tensor:
        """rows @ weight.T at the entries: values, from rows [tokens, d] and a weight [width, d].

        They may be in the shared buffer of that name.
        """

    def sum(self, values: Tensor) -> Tensor:
        """Values summed over tokens: [width]."""

    def add_outer(self, values: Tensor, rows: Tensor, out: Tensor, *, first: bool) -> None:
        """out [width, d] (+)= values.T @ rows; `first` overwrites instead of adding."""

    def add_inner(self, rows: Tensor, values: Tensor, out: Tensor, *, first: bool) -> None:
        """out [d, width] (+)= rows.T @ values; `first` overwrites instead of adding."""


class SparseCodes:
    """Selected entries of each token."""

    def __init__(self, values: Tensor, columns: Tensor, offsets: Tensor, width: int) -> None:
        """Entries are ordered by token: token t has entries offsets[t] to offsets[t + 1] (exclusive)."""
        self.values, self.columns, self.offsets, self.width = values, columns, offsets, width

    @classmethod
    def at(cls, u: Tensor, flat: Tensor) -> "SparseCodes":
        """The entries of u [tokens, width] at ascending flat indices."""
        tokens, width = u.shape
        counts = torch.bincount(flat // width, minlength=tokens)
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return cls(u.view(-1)[flat], flat % width, offsets, width)

    @classmethod
    def in_columns(cls, u: Tensor, columns: Tensor) -> "SparseCodes":
        """The entries of u [tokens, width] in the columns [tokens, k] of each token."""
        tokens, k = columns.shape
        offsets = torch.arange(0, tokens * k + 1, k, device=u.device)
        return cls(u.gather(1, columns).view(-1), columns.reshape(-1), offsets, u.shape[1])

    def spread(self, vector: Tensor) -> Tensor:
        """See Codes."""
        return vector[self.columns]

    def decode(self, values: Tensor, weight: Tensor) -> Tensor:
        """See Codes."""
        decoded: Tensor = embedding_bag(
            self.columns,
            weight,
            self.offsets,
            mode="sum",
            per_sample_weights=values,
            include_last_offset=True,
        )
        return decoded

    def sample(self, rows: Tensor, weight: Tensor, *, name: str = "sampled") -> Tensor:
        """See Codes."""
        size = (len(self.offsets) - 1, self.width)
        pattern = _compressed(self.offsets, self.columns, torch.zeros_like(self.values), size)
        sampled: Tensor = torch.sparse.sampled_addmm(pattern, rows, weight.T, beta=0).values()
        return sampled

    def sum(self, values: Tensor) -> Tensor:
        """See Codes."""
        return values.new_zeros(self.width).index_add_(0, self.columns, values)

    def add_outer(self, values: Tensor, rows: Tensor, out: Tensor, *, first: bool) -> None:
        """See Codes."""
        order, tokens, starts = self.by_column
        matrix = _compressed(starts, tokens, values[order], (self.width, len(rows)))
        torch.addmm(out, matrix, rows, beta=0 if first else 1, out=out)

    def add_inner(self, rows: Tensor, values: Tensor, out: Tensor, *, first: bool) -> None:
        """See Codes."""
        # Summing whole rows and transposing the result once is fastest.
        turned = scratch("turned", self.width, len(out), like=out)
        self.add_outer(values, rows, turned, first=True)
        out.copy_(turned.T) if first else out.add_(turned.T)

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """The entries ordered by latent: their positions, their tokens, and where each latent begins."""
        order = self.columns.int().sort(stable=True).indices
        tokens = torch.arange(len(self.offsets) - 1, device=order.device)
        tokens = tokens.repeat_interleave(self.offsets.diff(), output_size=len(order))
        counts = torch.bincount(self.columns, minlength=self.width)
        return order, tokens[order], torch.nn.functional.pad(counts.cumsum(0), (1, 0))


class DenseCodes:
    """All entries of each token."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def spread(self, vector: Tensor) -> Tensor:
        """See Codes."""
        return vector

    def decode(self, values: Tensor, weight: Tensor) -> Tensor:
        """See Codes."""
        return values @ weight

    def sample(self, rows: Tensor, weight: Tensor, *, name: str = "sampled") -> Tensor:
        """See Codes."""
        return torch.mm(rows, weight.T, out=space(name, self.values))

    def sum(self, values: Tensor) -> Tensor:
        """See Codes."""
        return values.sum(0)

    def add_outer(self, values: Tensor, rows: Tensor, out: Tensor, *, first: bool) -> None:
        """See Codes."""
        out.addmm_(values.T, rows, beta=0 if first else 1)

    def add_inner(self, rows: Tensor, values: Tensor, out: Tensor, *, first: bool) -> None:
        """See Codes."""
        out.addmm_(rows.T, values, beta=0 if first else 1)


def _compressed(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
