"""Finding the entries of a batch's pre-activations that become active, without sorting all of them.

The pre-activations are cut into groups of neighbours. A group's maximum bounds its entries, so one cheap pass
over the groups rules out most of them, and exact selection works on the rest. There is no memory of earlier
batches, so the same batch always gives the same entries.
"""

import torch
from torch import Tensor

_SPARSE_GROUPS = 7 / 8
"""Share of groups with an active entry; 32 entries of which 1/16 are active at random have it."""

_BINS = 2**15
"""Sign aside, a float32's first 15 bits: exponent and 7 bits of mantissa, in the order of the numbers."""


def top_of_rows(u: Tensor, k: int, *, signed: bool) -> Tensor:
    """Columns [rows, k] of the k largest entries of every row of u [rows, width], by |u| if `signed`."""
    rows, width = u.shape
    group = _group_size(width, k)
    if u.device.type != "cpu" or group == 1:
        return _flat(u, k, signed)
    maxima = _maxima(u, group, signed).view(rows, -1)
    # The k groups of largest maximum hold the k largest entries, and the k-th maximum bounds them below.
    best = maxima.topk(k, dim=-1, sorted=False)
    floor = best.values.amin(1, keepdim=True)
    if not bool(floor.sum().isfinite()):
        return _flat(u, k, signed)
    groups = best.indices + torch.arange(rows, device=u.device)[:, None] * maxima.shape[1]
    block = u.view(-1, group).index_select(0, groups.view(-1)).view(rows, -1)
    size = block.abs_() if signed else block
    at = (size >= floor).view(-1).nonzero().squeeze(1)
    chosen = _top_of_ragged(size.view(-1)[at], at // size.shape[1], rows, k)
    at = at[chosen.view(-1)]
    return (best.indices.view(-1)[at // group] * group + at % group).view(rows, k)


def _top_of_ragged(values: Tensor, row: Tensor, rows: int, k: int) -> Tensor:
    """Positions [rows, k] of the k largest values of every row; `row` is sorted, each row there k times."""
    counts = torch.bincount(row, minlength=rows)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(row), device=row.device) - starts[row]
    padded = values.new_full((rows, int(counts.max())), -torch.inf)
    padded[row, place] = values
    return padded.topk(k, dim=-1, sorted=False).indices + starts[:, None]


def top_of_batch(u: Tensor, count: int, *, signed: bool) -> Tensor:
    """Flat indices, ascending, of the `count` largest entries of u [rows, width], by |u| if `signed`.

    Only entries of positive size: fewer than `count` if there are not as many. Of equal entries at the
    border the first ones are taken.
    """
    group = _group_size(u.numel(), count)
    maxima = _maxima(u, group, signed)
    floor = _bound(maxima, count) if group > 1 and bool(maxima.sum().isfinite()) else 0.0
    at, size = _above(u, _where_above(maxima, floor), floor, group, signed)
    if len(at) <= count:
        return at
    border = size.kthvalue(len(at) - count + 1).values
    keep = ~(size <= border)  # what is not a number counts as large
    equal = (size == border).nonzero().squeeze(1)
    keep[equal[: max(0, count - int(keep.sum()))]] = True
    return at[keep]


def positive(u: Tensor, limit: float) -> Tensor | None:
    """Flat indices, ascending, of the entries of u [rows, width] above 0; None if too many.

    That is, more than the share `limit` of all, or so many groups that looking at them costs more.
    """
    group = 32 if u.numel() % 32 == 0 else 1
    groups = _where_above(_maxima(u, group, signed=False), 0.0)
    if len(groups) * group > _SPARSE_GROUPS * u.numel():
        return None
    at, _ = _above(u, groups, 0.0, group, signed=False)
    return at if len(at) <= limit * u.numel() else None


def beyond(u: Tensor, floor: float, *, signed: bool) -> Tensor:
    """Flat indices, ascending, of the entries of u [rows, width] above a floor, by |u| if `signed`."""
    group = 32 if u.numel() % 32 == 0 else 1
    groups = _where_above(_maxima(u, group, signed), floor)
    if group == 1 or len(groups) * group > _SPARSE_GROUPS * u.numel():
        return groups if group == 1 else _where_above((u.abs() if signed else u).view(-1), floor)
    return _above(u, groups, floor, group, signed)[0]


def _group_size(entries: int, k: int) -> int:
    """Entries a group: small enough for more groups than k, as large as pays; 1 where nothing divides."""
    for size, at_least in ((64, 8 * k), (32, k)):
        if entries % size == 0 and entries // size >= at_least:
            return size
    return 1


def _maxima(u: Tensor, group: int, signed: bool) -> Tensor:
    groups = u.view(-1, group)
    if group == 1:
        return u.view(-1).abs() if signed else u.view(-1)
    largest = groups.amax(1)
    # Two reductions of this form are ten times faster than the norm or aminmax.
    return torch.maximum(largest, groups.amin(1).neg_()) if signed else largest


def _bound(maxima: Tensor, count: int) -> float:
    """A number below the count-th largest maximum by about 1 %; 0 if there are not as many above 0."""
    bins = maxima.float().clamp_min(0).abs().view(torch.int32) >> 16  # abs: the bits of -0 are not those of 0
    at_least = torch.bincount(bins, minlength=_BINS).flip(0).cumsum(0)
    border = _BINS - 1 - int(torch.searchsorted(at_least, count))
    # One bin lower, so that the comparison can be strict and rounding to float32 does no harm.
    edge = torch.tensor([max(border - 1, 0) << 16], dtype=torch.int32)
    return float(edge.view(torch.float32))


def _above(u: Tensor, groups: Tensor, floor: float, group: int, signed: bool) -> tuple[Tensor, Tensor]:
    """Flat indices of the entries of some groups whose size is above the floor, and their sizes."""
    block = u.view(-1, group).index_select(0, groups).view(-1)
    size = block.abs_() if signed else block
    at = _where_above(size, floor)
    return groups[at // group] * group + at % group, size[at]


def _where_above(values: Tensor, floor: float) -> Tensor:
    # What is not a number counts as above, so that it reaches the loss and is noticed there.
    return (~(values <= floor)).nonzero().squeeze(1)


def _flat(u: Tensor, k: int, signed: bool) -> Tensor:
    return (u.abs() if signed else u).topk(k, dim=-1, sorted=False).indices
