"""A share with its confidence interval."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Share:
    """A share of n, between 0 and 1, with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def share(hits: int, n: int) -> Share:
    """hits / n with Wilson's 95 % score interval (Wilson 1927, without continuity correction).

    Unlike the normal approximation, it stays within [0, 1] and does not shrink to zero width at 0 or n hits.
    Raises ValueError unless 0 ≤ hits ≤ n and n > 0; a share of nothing is undefined.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"no share: {hits} of {n}")
    value, squared = hits / n, _Z**2
    middle = (value + squared / (2 * n)) / (1 + squared / n)
    half = _Z * sqrt(value * (1 - value) / n + squared / (4 * n**2)) / (1 + squared / n)
    # At the ends the bounds are exact; rounding must not shift them.
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == n else middle + half
    return Share(value, low, high, n)
