"""Poles of features and latents, and their matching by direction.

A pole is one side of a unit: a feature or latent that fires with both signs has two, with opposite
directions. In terms of poles one signed latent and a pair of opposite one-sided latents are the same thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Poles(NamedTuple):
    """Sides on which units fire; every tensor has one row per pole."""

    unit: Tensor
    """Index of the feature or latent."""
    sign: Tensor
    """+1 or −1."""
    direction: Tensor
    """Unit vectors, [poles, d_model], that point to the pole's side."""

    @property
    def units(self) -> Tensor:
        """The distinct features or latents that have a pole."""
        import torch

        numbers: Tensor = torch.unique(self.unit)
        return numbers


class Matching(NamedTuple):
    """Pairs of true and found poles (or axes), each of which occurs at most once."""

    true: Tensor
    found: Tensor
    cosine: Tensor


def poles_of(directions: Tensor, positive: Tensor, negative: Tensor) -> Poles:
    """The poles of units with these directions [units, d_model] and numbers of firings [units]."""
    import torch

    units = [positive.nonzero().squeeze(-1), negative.nonzero().squeeze(-1)]
    unit = torch.cat(units)
    sign = torch.cat([torch.full_like(units[0], 1), torch.full_like(units[1], -1)])
    # Ordered by unit, so that nothing depends on which side is called positive.
    order = (2 * unit + (sign < 0)).argsort()
    unit, sign = unit[order], sign[order]
    return Poles(unit, sign, unit_rows(directions)[unit] * sign[:, None])


def unit_rows(directions: Tensor) -> Tensor:
    """Rows scaled to norm 1; rows of zeros stay zero."""
    rows: Tensor = directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return rows


def assign(cosines: Tensor) -> Matching:
    """The one-to-one matching of rows (true) and columns (found) with the largest sum of cosines.

    Uses the Hungarian algorithm in float64, as for the mean correlation coefficient of arXiv 2505.20254.
    """
    import torch
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cosines.double().cpu().numpy(), maximize=True)
    true, found = (torch.as_tensor(each, device=cosines.device) for each in (rows, columns))
    return Matching(true, found, cosines[true, found])


def match_poles(true: Poles, found: Poles) -> Matching:
    """Match each true pole with one pole of a latent, by signed cosine."""
    return assign(true.direction @ found.direction.T)


def match_axes(true: Tensor, found: Tensor) -> Matching:
    """Match each feature with one latent by |cosine|, so that a pair of opposite latents counts as one axis.

    `true` [features, d_model] and `found` [latents, d_model] are directions of any length.
    """
    return assign((unit_rows(true) @ unit_rows(found).T).abs())
