"""The smallest difference between two means that a number of seeds can resolve."""

import math
from collections.abc import Iterable
from functools import lru_cache

from abench.statistics.summary import t_quantile

POWER, ERROR = 0.8, 0.05
"""A difference counts as resolvable if a two-sided test at 5 % finds it in 80 % of all repetitions."""


def smallest_difference(sd: float, n: int, power: float = POWER, error: float = ERROR) -> float | None:
    """The smallest true difference of two means that a two-sample t test on n + n values resolves.

    `sd` is the standard deviation of both groups. None for n < 2, where there is no test. The test statistic
    of a true difference d follows the noncentral t distribution with 2(n − 1) degrees of freedom and
    noncentrality d / (sd · √(2 / n)) (Cohen, Statistical Power Analysis, 1988, chapter 2).
    """
    if n < 2:
        return None
    return noncentrality(2 * (n - 1), power, error) * sd * math.sqrt(2 / n)


def pooled_sd(groups: Iterable[tuple[float, int]]) -> float | None:
    """The common standard deviation of groups with their own means, from (sd, n) pairs; None without any."""
    usable = [(sd, n) for sd, n in groups if n > 1]
    freedom = sum(n - 1 for _, n in usable)
    return math.sqrt(sum(sd**2 * (n - 1) for sd, n in usable) / freedom) if freedom else None


@lru_cache(maxsize=1024)
def noncentrality(freedom: int, power: float, error: float) -> float:
    """The noncentrality at which a two-sided t test rejects with this power.

    Rejections in the wrong direction, whose probability is below 10^-4 at a power of 80 %, do not count.
    """
    from scipy.special import nctdtrinc

    return float(nctdtrinc(freedom, 1 - power, t_quantile(1 - error / 2, freedom)))
