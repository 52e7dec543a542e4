"""Whether two quantities order things alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

from abench.statistics.permutation import SAMPLED, permutation_test
from abench.statistics.summary import LEVEL, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST_RANKED = 4
"""Minimum number of pairs: three have six orders, so p could not be below 1/3."""
MOST_ORDERED = 7
"""Up to this number of pairs, all n! orders are enumerated."""
_ROUNDING = 1e-9
"""Difference below which two correlations count as equal."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of n pairs, with the p value of a permutation test."""

    rho: float
    n: int
    p: float
    interval: Interval | None
    """The 95 % interval of ρ; None for |ρ| = 1, where the formula gives none."""


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> RankCorrelation | None:
    """Spearman's ρ of pairs; None for fewer than four, or if one of the quantities is constant.

    ρ is the correlation of the ranks (Spearman, 1904); ties share their mean rank. p is two-sided: the share
    of all orders of one quantity whose |ρ| is at least as large. All n! are enumerated for up to 7 pairs; for
    more, 9,999 are drawn from a fixed seed, and p is (1 + those) / 10,000. The interval is Fisher's z with
    the standard error √((1 + ρ²/2) / (n − 3)) (Bonett and Wright, 2000). Raises ValueError for sequences of
    different lengths.
    """
    import numpy as np

    if len(first) != len(second):
        raise ValueError(f"{len(first)} values cannot be paired with {len(second)}")
    if len(first) < FEWEST_RANKED or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    ranks, others = _standardised_ranks(first), _standardised_ranks(second)
    rho = float(np.clip(ranks @ others, -1, 1))
    orders, exact = _orders(ranks)
    found = permutation_test(np.abs(orders @ others), abs(rho) - _ROUNDING, exact=exact)
    return RankCorrelation(rho, len(first), found.p, _interval(rho, len(first)))


def _interval(rho: float, n: int) -> Interval | None:
    """The 95 % interval of a rank correlation; None for |ρ| = 1, which has no finite z."""
    from scipy.special import ndtri

    if abs(rho) > 1 - _ROUNDING:
        return None
    z, error = math.atanh(rho), math.sqrt((1 + rho**2 / 2) / (n - 3))
    half = float(ndtri((1 + LEVEL) / 2)) * error
    return Interval(math.tanh(z - half), math.tanh(z + half))


def _standardised_ranks(values: Sequence[float]) -> "NDArray[np.float64]":
    """The ranks with mean 0 and length 1; ties have their mean rank."""
    import numpy as np
    from scipy.stats import rankdata  # here, since its import takes a second

    ranks = rankdata(values)
    centred: NDArray[np.float64] = ranks - ranks.mean()
    scaled: NDArray[np.float64] = centred / np.linalg.norm(centred)
    return scaled


def _orders(ranks: "NDArray[np.float64]") -> "tuple[NDArray[np.float64], bool]":
    """Orders of the ranks, [orders, n], and whether these are all."""
    import numpy as np

    if len(ranks) <= MOST_ORDERED:
        return np.array(list(permutations(ranks))), True
    return np.random.default_rng(0).permuted(np.tile(ranks, (SAMPLED, 1)), axis=1), False
