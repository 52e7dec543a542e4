"""Selecting the pre-activations of a batch that become active, without sorting all of them.

The pre-activations are divided into groups of adjacent entries. A group's maximum bounds its entries, so one
cheap pass over the maxima rules out most groups, and an exact selection works on the rest. Nothing is
remembered from earlier batches, so the same batch always gives the same entries.
"""

import torch
from torch import Tensor

_SPARSE_GROUPS = 7 / 8
"""Share of groups with an active entry up to which groups pay off; groups of 32 reach it when a random 1/16
of all entries are active."""

_FEW_ENTRIES = 2**24
"""Entries up to which a GPU passes over all of them sooner than it answers, several times, how many groups
matter."""

_BINS = 2**15
"""Bins of a histogram of non-negative float32 numbers by their first 15 bits after the sign: the exponent
and 7 bits of the mantissa, which sort like the numbers."""


def top_of_rows(u: Tensor, k: int, *, signed: bool) -> Tensor:
    """Columns [rows, k] of the k largest entries of every row of u [rows, width], by |u| if `signed`.

    Each row is divided into groups, of which the k with the largest maxima contain the k largest entries:
    every other entry is at most as large as those k maxima. Example for one row with k = 2 and groups of 2
    (in fact 64 or 32):

        u = [6, 5 | 2, 0 | 4, 3 | 0, 1]   maxima [6, 2, 4, 1]
        best groups: 0 and 2, with the maxima 6 and 4; floor, the smaller of these: 4
        entries of the best groups that are at least 4: 6, 5 and 4, of which 6 and 5 are the largest
        -> columns 0 and 1
    """
    rows, width = u.shape
    group = _group_size(width, k)
    if u.device.type != "cpu" or group == 1:
        return _flat(u, k, signed)
    maxima = _maxima(u, group, signed).view(rows, -1)
    # The best maxima are k entries that reach the floor; smaller entries are ruled out.
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
    """Positions [rows, k] in `values` of the k largest values of every row.

    `row` holds the row of each value; it is sorted, and every row occurs at least k times. Example with
    k = 2: the values [6, 5, 4, 9, 8] in rows [0, 0, 0, 1, 1] are padded to [[6, 5, 4], [9, 8, −inf]], which
    gives the positions [[0, 1], [3, 4]].
    """
    counts = torch.bincount(row, minlength=rows)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(row), device=row.device) - starts[row]
    padded = values.new_full((rows, int(counts.max())), -torch.inf)
    padded[row, place] = values
    return padded.topk(k, dim=-1, sorted=False).indices + starts[:, None]


def top_of_batch(u: Tensor, count: int, *, signed: bool) -> Tensor:
    """Flat indices, ascending, of the `count` largest entries of u [rows, width], by |u| if `signed`.

    Only entries of positive size are selected, so the result may have fewer than `count`. Among equal entries
    at the border, the first ones are selected. Example with count = 3 and groups of 2 (in fact 64 or 32):

        u = [1, 5 | 2, 0]   maxima 5, 2
            [4, 3 | 0, 1]   maxima 4, 1
        third largest maximum: 2, so at least 3 entries are 2 or more; floor 1.99 (`_bound`)
        entries above the floor, all in groups whose maximum is above it: 5, 2, 4, 3 (one too many)
        border, the third largest of these: 3; above it 5 and 4, equal to it 3
        -> flat indices [1, 4, 5]
    """
    if _flat_is_faster(u):
        return _top_of_all(u, count, signed)
    group = _group_size(u.numel(), count)
    maxima = _maxima(u, group, signed)
    floor = _bound(maxima, count) if group > 1 and bool(maxima.sum().isfinite()) else 0.0
    at, size = _above(u, _where_above(maxima, floor), floor, group, signed)
    if len(at) <= count:
        return at
    border = size.kthvalue(len(at) - count + 1).values
    keep = ~(size <= border)  # NaN counts as large
    equal = (size == border).nonzero().squeeze(1)
    keep[equal[: max(0, count - int(keep.sum()))]] = True
    return at[keep]


def positive(u: Tensor, limit: float) -> Tensor | None:
    """Flat indices, ascending, of the entries of u [rows, width] above 0; None if there are too many.

    Too many are more than the share `limit` of all entries, or entries in so many groups that groups do not
    pay off.
    """
    if _flat_is_faster(u):
        at = _where_above(u.view(-1), 0.0)
        return at if len(at) <= limit * u.numel() else None
    group = 32 if u.numel() % 32 == 0 else 1
    groups = _where_above(_maxima(u, group, signed=False), 0.0)
    if len(groups) * group > _SPARSE_GROUPS * u.numel():
        return None
    at, _ = _above(u, groups, 0.0, group, signed=False)
    return at if len(at) <= limit * u.numel() else None


def beyond(u: Tensor, floor: float, *, signed: bool) -> Tensor:
    """Flat indices, ascending, of the entries of u [rows, width] above a floor; of |u| if `signed`."""
    group = 32 if u.numel() % 32 == 0 and not _flat_is_faster(u) else 1
    groups = _where_above(_maxima(u, group, signed), floor)
    if group == 1 or len(groups) * group > _SPARSE_GROUPS * u.numel():
        return groups if group == 1 else _where_above((u.abs() if signed else u).view(-1), floor)
    return _above(u, groups, floor, group, signed)[0]


def _flat_is_faster(u: Tensor) -> bool:
    return u.is_cuda and u.numel() <= _FEW_ENTRIES


def _top_of_all(u: Tensor, count: int, signed: bool) -> Tensor:
    """As `top_of_batch`, by passes over all entries, which wait for a GPU only once."""
    size = (u.abs() if signed else u).view(-1)
    # Only the border is used, because which of several equal entries topk returns is not defined.
    border = size.topk(count, sorted=False).values.amin()
    # Not `size > border`: NaN counts as large.
    above, equal = ~(size <= border), size == border
    keep = above | (equal & (equal.cumsum(0) <= count - above.sum()))
    return (keep & ~(size <= 0)).nonzero().squeeze(1)


def _group_size(entries: int, k: int) -> int:
    """Entries per group: as many as pay off with at least k groups; 1 if no size fits."""
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
    """A number about 1 % below the count-th largest maximum; 0 if fewer than `count` maxima are positive.

    The maxima are counted in bins of about 1 % width instead of sorted. Example: for the maxima [5, 2, 4, 1]
    and count = 3, the third largest is 2. Three maxima are in the bin that begins at 2 or in higher ones;
    the bin below it begins at 1.9921875, which is returned.
    """
    bins = maxima.float().clamp_min(0).abs().view(torch.int32) >> 16  # abs: -0 has other bits than 0
    at_least = torch.bincount(bins, minlength=_BINS).flip(0).cumsum(0)
    border = _BINS - 1 - int(torch.searchsorted(at_least, count))
    # One bin lower, so that the comparison can be strict and rounding to float32 is harmless.
    edge = torch.tensor([max(border - 1, 0) << 16], dtype=torch.int32)
    return float(edge.view(torch.float32))


def _above(u: Tensor, groups: Tensor, floor: float, group: int, signed: bool) -> tuple[Tensor, Tensor]:
    """Flat indices and sizes of the entries of the given groups whose size is above the floor."""
    block = u.view(-1, group).index_select(0, groups).view(-1)
    size = block.abs_() if signed else block
    at = _where_above(size, floor)
    return groups[at // group] * group + at % group, size[at]


def _where_above(values: Tensor, floor: float) -> Tensor:
    # NaN counts as above, so that it reaches the loss and is noticed there.
    return (~(values <= floor)).nonzero().squeeze(1)


def _flat(u: Tensor, k: int, signed: bool) -> Tensor:
    return (u.abs() if signed else u).topk(k, dim=-1, sorted=False).indices
