"""Comparing two methods that were measured on the same units: seeds, or items."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from abench.statistics.permutation import SAMPLED, Permutation, permutation_test

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_ENUMERATED = 16
"""Up to this number of units, all 2^n assignments of signs are enumerated."""
_ROUNDING = 1e-9
"""Share of the largest possible sum by which two sums may differ and still count as equal."""


def paired_permutation(differences: Sequence[float], seed: int = 0) -> Permutation | None:
    """A two-sided test of whether differences of pairs are symmetric around 0; None without differences.

    If the two methods do not differ, exchanging their values in a pair changes nothing, so that every
    assignment of signs to the differences is equally probable. p is the share of assignments whose sum is at
    least as far from 0 as the observed sum (Fisher, 1935, section 21). All assignments are enumerated for up
    to 16 pairs; for more, 9,999 are drawn, and p is (1 + those) / 10,000, which is never too small (Phipson
    and Smyth, 2010).
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    n = len(values)
    if not n:
        return None
    at_least = abs(values.sum()) - _ROUNDING * np.abs(values).sum()
    return permutation_test(np.abs(_signs(n, seed) @ values), at_least, exact=n <= MOST_ENUMERATED)


def wins_ties_losses(differences: Sequence[float], higher_is_better: bool) -> tuple[int, int, int]:
    """How many differences are in the better direction, zero, and in the worse direction."""
    better = [value if higher_is_better else -value for value in differences]
    wins, losses = sum(value > 0 for value in better), sum(value < 0 for value in better)
    return wins, len(better) - wins - losses, losses


@lru_cache(maxsize=4)
def _signs(n: int, seed: int) -> "NDArray[np.float64]":
    """Assignments of signs, [assignments, n]. All those with a positive last sign, or random ones.

    An assignment and its opposite have sums of the same size, so half of all assignments suffice.
    """
    import numpy as np

    if n <= MOST_ENUMERATED:
        bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1  # the last sign is always positive
    else:
        bits = np.random.default_rng(seed).integers(0, 2, size=(SAMPLED, n))
    signs: NDArray[np.float64] = 1.0 - 2.0 * bits
    return signs
