"""Comparing variants at equal L0 or equal loss recovered, by interpolation along each variant's curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from abench.report.frame import Record
from abench.report.pairs import (
    Comparison,
    Measured,
    Seed,
    Series,
    compared,
    corrected,
    counterpart,
    curves_of,
    directions,
    is_compared,
    ordered,
)
from abench.report.style import NO_STYLES, Styles, variant_style
from abench.statistics import Polyline, common_range

AXES = {"l0": "l0", "loss_recovered": "loss_recovered_zero"}
"""What can be equal -> the metric of the task core that measures it."""
TITLES = {"l0": "L0", "loss_recovered": "loss recovered"}

Points = list[tuple[float, float]]
"""(L0 or loss recovered, value of the metric) pairs, one per k."""


class Curve(NamedTuple):
    """A variant's metric along L0 or loss recovered, as means over seeds."""

    series: Series
    points: Points


class AtEqual(NamedTuple):
    """Comparisons at equal L0 or equal loss recovered."""

    comparisons: list[Comparison]
    problems: list[str]
    """Sentences on series that cannot be compared."""
    curves: list[Curve]
    """The curves along which values were interpolated, the baseline's first."""
    measured: bool
    """Whether L0 (or loss recovered) is known of any SAE: the task core measures it."""


def at_equal(records: Sequence[Record], baseline: str, axis: str, styles: Styles = NO_STYLES) -> AtEqual:
    """Comparisons at the baseline's own mean L0 (or loss recovered) at each k; without extrapolation.

    Values are interpolated linearly along the curve of each seed, in the range that the curves of all seeds
    of both variants have in common. If no mean of the baseline is in it, its middle is taken. Seeds with a
    value at fewer k than others are left out.
    """
    curves, better = curves_of(records, is_compared), directions(records)
    x = _x_of(records, AXES[axis])
    found: list[Comparison] = []
    problems: dict[str, None] = {}
    shown: dict[Series, Points] = {}
    for series in ordered(curves, baseline):
        other = counterpart(series, baseline, curves)
        if series.metric == AXES[axis] or other is None:
            continue
        mine, theirs = (_by_seed(curves[each], x, each) for each in (series, other))
        seeds = [seed for seed in mine if seed in theirs]
        common = common_range([by_seed[seed] for by_seed in (mine, theirs) for seed in seeds])
        if common is None:
            titles = (variant_style(each.variant, styles).title for each in (series, other))
            ranges = " and ".join(map(_range_text, titles, (mine, theirs)))
            problems[f"No common range of {TITLES[axis]} ({series.task}): {ranges}."] = None
            continue
        shown |= {other: _means(theirs), series: _means(mine)}
        own_means = [place for place, _ in _means({seed: theirs[seed] for seed in seeds})]
        places = [p for p in own_means if common.low <= p <= common.high] or [(common.low + common.high) / 2]
        lines = [(Polyline.of(mine[seed]), Polyline.of(theirs[seed])) for seed in seeds]
        for place in places:
            pairs = [(_at(own, place), _at(their, place)) for own, their in lines]
            found.append(compared(series, baseline, axis, place, better[series[5:]], pairs))
    return AtEqual(corrected(found), list(problems), [Curve(*each) for each in shown.items()], bool(x))


def _x_of(records: Sequence[Record], metric: str) -> Mapping[tuple[object, ...], float]:
    """SAE (model, site, variant, width, k, seed) -> its L0 or loss recovered."""
    measured = curves_of(records, lambda each: each["name"] == metric)
    return {
        (*series[:4], k, seed): each.value
        for series, by_k in measured.items()
        if (series.task, series.view) == ("core", "native")
        for k, seeds in by_k.items()
        for seed, each in seeds.items()
    }


def _by_seed(
    by_k: Mapping[int | None, Mapping[Seed, Measured]], x: Mapping[tuple[object, ...], float], series: Series
) -> dict[Seed, Points]:
    """The curve of each seed, from the SAEs whose L0 or loss recovered is known."""
    found: dict[Seed, Points] = {}
    for k, seeds in by_k.items():
        for seed, each in seeds.items():
            place = x.get((*series[:4], k, seed))
            if place is not None:
                found.setdefault(seed, []).append((place, each.value))
    most = max(map(len, found.values()), default=0)
    return {seed: sorted(points) for seed, points in found.items() if len(points) == most}


def _at(line: Polyline, place: float) -> Measured:
    value = line.at(place)
    if value is None:
        raise ValueError(f"{place} is outside the curve")  # the common range is within every curve
    return Measured(value)


def _means(by_seed: Mapping[Seed, Points]) -> Points:
    """The mean curve, point by point."""
    same_k = zip(*by_seed.values(), strict=True)
    return [(fmean(x for x, _ in points), fmean(y for _, y in points)) for points in same_k]


def _range_text(title: str, by_seed: Mapping[Seed, Points]) -> str:
    places = [place for points in by_seed.values() for place, _ in points]
    return f"{title} has {min(places):.4g} to {max(places):.4g}" if places else f"{title} has none"
