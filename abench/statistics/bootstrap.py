"""Intervals by resampling items, for metrics that are means over items or ratios of sums over them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from abench.statistics.summary import LEVEL, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST_ITEMS = 8
"""Fewest items for an interval: with fewer, there are too few different resamples for its ends."""
RESAMPLES = 9_999

Method = Literal["bca", "percentile"]


def bootstrap_interval(
    numerators: Sequence[float],
    denominators: Sequence[float] | None = None,
    *,
    method: Method = "bca",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """An interval of sum(numerators) / sum(denominators), by resampling items with replacement.

    Without denominators, it is an interval of the mean of the numerators. `percentile` takes quantiles of the
    resampled values; `bca` also corrects their bias and skew (Efron, 1987, equation 2.3; Efron and
    Tibshirani, 1993, section 14.3). None for fewer than 8 items. Raises ValueError for lists of different
    lengths.
    """
    import numpy as np

    above = np.asarray(numerators, dtype=float)
    below = np.ones_like(above) if denominators is None else np.asarray(denominators, dtype=float)
    if above.shape != below.shape:
        raise ValueError("numerators and denominators must have the same length")
    if len(above) < LEAST_ITEMS:
        return None
    drawn = _resampled(above, below, resamples, seed)
    if not len(drawn):
        return None
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _corrected(tails, drawn, above, below)
    low, high = np.quantile(drawn, tails)
    return Interval(float(low), float(high))


def _resampled(above: "Floats", below: "Floats", resamples: int, seed: int) -> "Floats":
    """The ratio in each resample, without those whose denominators are all 0."""
    counts = _counts(len(above), resamples, seed)
    sums = counts @ below
    drawn: Floats = (counts @ above)[sums > 0] / sums[sums > 0]
    return drawn


@lru_cache(maxsize=4)
def _counts(items: int, resamples: int, seed: int) -> "Floats":
    """How often each item is in each resample, [resamples, items]; all that a ratio of sums needs.

    Cached, because a report has many metrics over the same number of items.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    return generator.multinomial(items, np.full(items, 1 / items), size=resamples).astype(float)


def _corrected(tails: "Floats", drawn: "Floats", above: "Floats", below: "Floats") -> Any:
    """The quantiles to take, corrected for bias and acceleration."""
    import numpy as np
    from scipy.special import ndtr, ndtri

    observed = above.sum() / below.sum()
    # Ties count half, so that discrete data do not look biased.
    share = (np.mean(drawn < observed) + np.mean(drawn <= observed)) / 2
    if not 0 < share < 1:
        return tails  # all resamples are on one side: there is nothing to correct by
    bias, normal = ndtri(share), ndtri(tails)
    moved = bias + normal
    return ndtr(bias + moved / (1 - _acceleration(above, below) * moved))


def _acceleration(above: "Floats", below: "Floats") -> float:
    """A sixth of the skewness of the values with one item left out."""
    import numpy as np

    rest = below.sum() - below
    usable = rest > 0
    without = (above.sum() - above[usable]) / rest[usable]
    away = without.mean() - without
    spread = float(np.sum(away**2))
    return float(np.sum(away**3) / (6 * spread**1.5)) if spread > 0 else 0.0
