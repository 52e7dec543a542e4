"""Mean, standard deviation and t interval of a few values, such as the scores of several seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev
from typing import NamedTuple

LEVEL = 0.95
"""Confidence level of all intervals."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """What values of one quantity say about its mean."""

    n: int
    mean: float
    sd: float | None
    """Sample standard deviation (ddof = 1); None for one value."""
    interval: Interval | None
    """The t interval of the mean; None for one value, which says nothing about its own spread."""


def summary_of(values: Sequence[float], level: float = LEVEL) -> Summary:
    """The summary of one or more finite values. Raises ValueError if there are none."""
    if not values:
        raise ValueError("a summary needs at least one value")
    mean = fmean(values)
    sd = stdev(values) if len(values) > 1 else None
    return Summary(len(values), mean, sd, t_interval(mean, sd, len(values), level))


def t_interval(mean: float, sd: float | None, n: int, level: float = LEVEL) -> Interval | None:
    """mean ± t(n − 1) · sd / √n; None for fewer than two values.

    It assumes that the values are independent draws from about a normal distribution.
    """
    if n < 2 or sd is None:
        return None
    half = half_width(sd, n, level)
    return Interval(mean - half, mean + half)


def half_width(sd: float, n: int, level: float = LEVEL) -> float:
    """Half the width of the t interval of the mean of n ≥ 2 values."""
    return t_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)


@lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t distribution with `freedom` degrees of freedom."""
    from scipy.special import stdtrit  # here, since reports of single seeds need none

    return float(stdtrit(freedom, probability))
