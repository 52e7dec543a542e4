"""The Pareto front of sparsity and fidelity: L0 (lower is better) and loss recovered (higher is better)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from abench.report.equal import AXES
from abench.report.frame import Record
from abench.report.pairs import curves_of
from abench.report.saes import absent_last
from abench.report.style import variant_order
from abench.statistics import front_shares, pareto_front


@dataclass(frozen=True)
class FrontPoint:
    """The SAEs of one variant, k and width, over their seeds."""

    model: str
    site: str
    variant: str
    k: int | None
    width: int
    l0: float
    loss_recovered: float
    seeds: int
    on_front: bool
    share: float | None
    """Share of resamples of the seeds in which the point is on the front; None unless all points have the
    same two or more seeds."""


def fronts_of(records: Sequence[Record]) -> list[FrontPoint]:
    """The points of each model and site, by L0; only seeds with both values count."""
    curves = curves_of(records, lambda metric: metric["name"] in AXES.values())
    found: dict[
        tuple[str, str], dict[tuple[str, int | None, int], dict[int | None, tuple[float, float]]]
    ] = {}
    for series, by_k in curves.items():
        if (series.task, series.view, series.metric) != ("core", "native", AXES["l0"]):
            continue
        recovered = curves.get(series._replace(metric=AXES["loss_recovered"]), {})
        for k, seeds in by_k.items():
            both = {
                s: (v.value, recovered[k][s].value) for s, v in seeds.items() if s in recovered.get(k, {})
            }
            if both:
                found.setdefault(series[:2], {})[series.variant, k, series.width] = both
    return [point for place in sorted(found) for point in _front(*place, found[place])]


def _front(
    model: str,
    site: str,
    points: dict[tuple[str, int | None, int], dict[int | None, tuple[float, float]]],
) -> list[FrontPoint]:
    import numpy as np

    order = variant_order(variant for variant, *_ in points)
    keys = sorted(points, key=lambda key: (order.index(key[0]), absent_last(key[1]), key[2]))
    means = [_mean(list(points[key].values())) for key in keys]
    on_front = pareto_front(np.array([(-l0, recovered) for l0, recovered in means])).tolist()
    seeds = [set(points[key]) for key in keys]
    shares: Sequence[float | None] = [None] * len(keys)
    if all(each == seeds[0] for each in seeds):
        names = sorted(seeds[0], key=absent_last)
        values = [[(-points[key][seed][0], points[key][seed][1]) for seed in names] for key in keys]
        found = front_shares(np.array(values))
        shares = shares if found is None else found.tolist()
    return [
        FrontPoint(model, site, *key, *mean, seeds=len(points[key]), on_front=front, share=share)
        for key, mean, front, share in zip(keys, means, on_front, shares, strict=True)
    ]


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The means of L0 and of loss recovered."""
    return fmean(l0 for l0, _ in pairs), fmean(recovered for _, recovered in pairs)
