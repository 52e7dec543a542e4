"""Values along a curve that is known at a few points; never beyond its ends."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean

from abench.statistics.summary import Interval

Points = Sequence[tuple[float, float]]
"""(x, y) pairs in any order."""


def interpolated(points: Points, at: float) -> float | None:
    """y at x = `at`, linear between the two neighbouring points; None outside the range of the points.

    Points with the same x count as one, with the mean of their y.
    """
    curve = _curve(points)
    for x, y in curve:
        if x == at:
            return y
    for (left, before), (right, after) in pairwise(curve):
        if left < at < right:
            share = (at - left) / (right - left)
            return (1 - share) * before + share * after
    return None


def common_range(curves: Iterable[Points]) -> Interval | None:
    """The range of x in which all curves are known; None if there is none."""
    ranges = [(min(x for x, _ in points), max(x for x, _ in points)) for points in curves if points]
    if not ranges:
        return None
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    return Interval(low, high) if low <= high else None


def _curve(points: Points) -> list[tuple[float, float]]:
    at: defaultdict[float, list[float]] = defaultdict(list)
    for x, y in points:
        at[x].append(y)
    return sorted((x, fmean(ys)) for x, ys in at.items())
