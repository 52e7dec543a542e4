"""Which methods cannot be told from the best one."""

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from abench.statistics.summary import summary_of, t_quantile

Key = TypeVar("Key", bound=Hashable)
Seed = TypeVar("Seed", bound=Hashable)

ERROR = 0.05


def not_told_from_best(
    values: Mapping[Key, Mapping[Seed, float]], best: Key, error: float = ERROR
) -> set[Key]:
    """The methods whose mean does not differ significantly from that of `best`, without `best` itself.

    `values` maps a method to its value for each seed. The values of a method with the same seeds as the best
    are compared in pairs, others as two samples (Welch, 1947), with t tests at `error` / (number of the other
    methods). The truly best method is then left out with a probability of at most `error` / 2 (subset
    selection; Gupta, 1965). Methods with one seed are never included, because nothing is known about them.
    """
    others = [key for key in values if key != best]
    level = error / max(1, len(others))
    return {key for key in others if not _differ(values[key], values[best], level)}


def _differ(one: Mapping[Seed, float], other: Mapping[Seed, float], error: float) -> bool:
    """Whether a two-sided t test at `error` tells the means apart; True if it cannot be carried out."""
    if len(one) < 2 or len(other) < 2:
        return True
    if set(one) == set(other):
        pairs = summary_of([one[seed] - other[seed] for seed in one])
        mean, se, freedom = pairs.mean, (pairs.sd or 0.0) / math.sqrt(pairs.n), float(pairs.n - 1)
    else:
        mean, se, freedom = _welch(list(one.values()), list(other.values()))
    return abs(mean) > t_quantile(1 - error / 2, freedom) * se


def _welch(one: list[float], other: list[float]) -> tuple[float, float, float]:
    """Difference of the means, its standard error and the degrees of freedom."""
    a, b = summary_of(one), summary_of(other)
    u, v = (a.sd or 0.0) ** 2 / a.n, (b.sd or 0.0) ** 2 / b.n
    spread = u**2 / (a.n - 1) + v**2 / (b.n - 1)
    freedom = (u + v) ** 2 / spread if spread else float(a.n + b.n - 2)
    return a.mean - b.mean, math.sqrt(u + v), freedom
