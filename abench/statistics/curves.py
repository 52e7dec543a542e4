"""Values along a curve that is known at a few points; never beyond its ends."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from abench.statistics.summary import Interval

Points = Sequence[tuple[float, float]]
"""(x, y) pairs in any order."""


@dataclass(frozen=True)
class Polyline:
    """A curve that is linear between neighbouring points."""

    x: tuple[float, ...]
    """Rising."""
    y: tuple[float, ...]

    @classmethod
    def of(cls, points: Points) -> "Polyline":
        """The curve through some points; those with the same x count as one, with the mean of their y."""
        at: defaultdict[float, list[float]] = defaultdict(list)
        for x, y in points:
            at[x].append(y)
        places = sorted(at)
        return cls(tuple(places), tuple(fmean(at[x]) for x in places))

    def at(self, x: float) -> float | None:
        """y at x; None outside the range of the points."""
        right = bisect_left(self.x, x)
        if right == len(self.x):
            return None
        if self.x[right] == x:
            return self.y[right]
        if right == 0:
            return None
        left = right - 1
        share = (x - self.x[left]) / (self.x[right] - self.x[left])
        return (1 - share) * self.y[left] + share * self.y[right]


def common_range(curves: Iterable[Points]) -> Interval | None:
    """The range of x in which all curves are known; None if there is none."""
    ranges = [(min(x for x, _ in points), max(x for x, _ in points)) for points in curves if points]
    if not ranges:
        return None
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    return Interval(low, high) if low <= high else None
