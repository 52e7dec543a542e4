"""The p value of a permutation test: over all permutations, or over random ones if these are too many."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLED = 9_999
"""Number of random permutations where not all are enumerated."""


@dataclass(frozen=True)
class Permutation:
    """The result of a permutation test."""

    p: float
    smallest: float
    """The smallest p value that this number of permutations can give."""
    exact: bool
    """Whether all permutations were enumerated."""


def permutation_test(statistics: "NDArray[np.float64]", at_least: float, *, exact: bool) -> Permutation:
    """The share of permutations whose statistic is at least as large as the observed one.

    `statistics` has one value per permutation: all of them, the observed one included, if `exact`; otherwise
    random ones, and p is (1 + those) / (1 + all), which is never too small (Phipson and Smyth, 2010).
    """
    import numpy as np

    extreme, every = int(np.count_nonzero(statistics >= at_least)), len(statistics)
    if exact:
        return Permutation(extreme / every, 1 / every, exact=True)
    return Permutation((1 + extreme) / (1 + every), 1 / (1 + every), exact=False)
