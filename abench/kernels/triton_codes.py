"""Sums of sparse codes on a GPU, with a Triton kernel.

It adds in a fixed order, so the same codes always give the same bits, unlike with atomic additions.
"""

from functools import cached_property

import torch
import triton
import triton.language as tl
from torch import Tensor

from abench.kernels.sparse_codes import SparseCodes

# The best of a sweep on an H200: the number of rows read at once, so that their loads overlap, and
# the maximum number of columns of each.
_ROWS = 8
_DECODER_COLUMNS = 256
_GRADIENT_COLUMNS = 512


class TritonCodes(SparseCodes):
    """Sparse codes on a CUDA device."""

    @classmethod
    def at(cls, u: Tensor, flat: Tensor) -> "TritonCodes":
        """See SparseCodes; offsets are found without counting, which would wait for the GPU."""
        tokens, width = u.shape
        starts = torch.arange(0, tokens * width + 1, width, device=flat.device)
        return cls(u.view(-1)[flat], flat % width, torch.searchsorted(flat, starts), width)

    def decode(self, values: Tensor, weight: Tensor) -> Tensor:
        """See Codes."""
        out = weight.new_empty(len(self.offsets) - 1, weight.shape[1])
        sum_rows(self.offsets, self.columns, values, weight, out, at_once=_DECODER_COLUMNS)
        return out

    def sum(self, values: Tensor) -> Tensor:
        """See Codes."""
        order, _, starts = self.by_column
        return torch.segment_reduce(values[order], "sum", offsets=starts, unsafe=True, initial=0)

    def add_outer(self, values: Tensor, rows: Tensor, out: Tensor, *, first: bool) -> None:
        """See Codes."""
        order, tokens, starts = self.by_column
        sum_rows(starts, tokens, values[order], rows, out, add=not first, at_once=_GRADIENT_COLUMNS)

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """See SparseCodes; computed without counting, which would wait for the GPU."""
        latents, order = self.columns.int().sort(stable=True)
        each = torch.arange(self.width + 1, dtype=torch.int32, device=order.device)
        tokens = torch.searchsorted(self.offsets, order, right=True) - 1
        return order, tokens, torch.searchsorted(latents, each)


def sum_rows(
    starts: Tensor,
    index: Tensor,
    values: Tensor,
    rows: Tensor,
    out: Tensor,
    *,
    add: bool = False,
    at_once: int,
) -> None:
    """out[s] (+)= Σ values[i] · rows[index[i]] for i from starts[s] to starts[s + 1]; out is [segments, d].

    Each program computes at most `at_once` columns of one segment.
    """
    segments, d = out.shape
    columns = min(triton.next_power_of_2(d), at_once)
    _sum_rows[(segments, triton.cdiv(d, columns))](
        starts, index, values, rows.contiguous(), out, d, ADD=add, ROWS=_ROWS, COLUMNS=columns
    )


@triton.jit  # type: ignore[untyped-decorator]
def _sum_rows(  # type: ignore[no-untyped-def]
    starts, index, values, rows, out, d, ADD: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    segment = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < d
    end = tl.load(starts + segment + 1)
    total = tl.zeros([ROWS, COLUMNS], dtype=out.dtype.element_ty)
    for first in range(tl.load(starts + segment), end, ROWS):
        entry = first + tl.arange(0, ROWS)
        row = tl.load(index + entry, mask=entry < end, other=0).to(tl.int64)
        value = tl.load(values + entry, mask=entry < end, other=0.0)
        mask = (entry < end)[:, None] & inside[None, :]
        total += value[:, None] * tl.load(rows + row[:, None] * d + columns[None, :], mask=mask, other=0.0)
    result = tl.sum(total, axis=0)
    at = out + segment * d + columns
    if ADD:
        result += tl.load(at, mask=inside, other=0.0)
    tl.store(at, result, mask=inside)
