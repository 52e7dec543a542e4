"""Comparing variants with a baseline on the same seeds and items."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from abench.errors import UserError, did_you_mean
from abench.report.frame import Record
from abench.report.items import RESAMPLES, Items, items_of
from abench.report.parts import basis_of
from abench.report.saes import absent_last
from abench.report.style import NO_STYLES, Styles, variant_order, variant_style
from abench.report.validity import is_valid
from abench.statistics import (
    Interval,
    Permutation,
    bootstrap_interval,
    holm,
    paired_permutation,
    summary_of,
    wins_ties_losses,
)

USUAL_BASELINE = "topk"
LEVEL = 0.05
"""Largest corrected p value of a difference that counts as one."""

Seed = int | None
Metric = Mapping[str, Any]


class Measured(NamedTuple):
    """One metric of one cell: its value, and what the value rests on."""

    value: float
    items: Items | None = None
    basis: Any = None


class Series(NamedTuple):
    """What tells the rows of comparisons apart, apart from the k and the seeds."""

    model: str
    site: str
    variant: str
    width: int
    view: str
    task: str
    task_version: str
    metric: str


Curves = Mapping[Series, Mapping[int | None, Mapping[Seed, Measured]]]
"""Series -> k -> seed -> the value."""


@dataclass(frozen=True)
class Comparison:
    """One metric of a variant and of the baseline, on the same seeds."""

    series: Series
    baseline: str
    at: str
    """What is equal: `k`, `l0` or `loss_recovered`."""
    place: float | None
    """The k, L0 or loss recovered; None for SAEs that state no k."""
    higher_is_better: bool
    own: float
    """The variant's mean over the common seeds."""
    other: float
    """The baseline's mean over the same seeds."""
    interval: Interval | None
    """95 % interval of the difference, over seeds, or over items for a single seed."""
    seeds: int
    items: int
    """Number of common items; 0 if the cells have none."""
    test: Permutation | None
    """Over seeds, or over items for a single seed."""
    over: str
    """`seeds` or `items`: the units of interval, test and counts."""
    counts: tuple[int, int, int]
    """Wins, ties and losses of the variant."""
    p_holm: float | None = None
    """p corrected over all comparisons of the table."""

    @property
    def difference(self) -> float:
        """The variant's mean minus the baseline's."""
        return self.own - self.other

    @property
    def verdict(self) -> str:
        """`better` or `worse` if the corrected test says so; empty if it does not."""
        if self.p_holm is None or self.p_holm > LEVEL or not self.difference:
            return ""
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"


def baseline_in(records: Sequence[Record], named: str | None) -> str:
    """The baseline's label: `named`, else `topk`, else the first variant in the order of tables.

    Raises UserError if there is no such variant, or no second variant to compare with it.
    """
    variants = variant_order(record["labels"]["variant"] for record in records)
    if named is not None and named not in variants:
        raise UserError(f"there is no SAE {named!r} to compare with{did_you_mean(named, variants)}")
    if len(variants) < 2:
        raise UserError("there is nothing to compare: the run has one variant; add others with --variants")
    return named or (USUAL_BASELINE if USUAL_BASELINE in variants else variants[0])


def curves_of(records: Iterable[Record], wanted: Callable[[Metric], bool]) -> Curves:
    """The meaningful values of the wanted metrics, by series, k and seed."""
    found: dict[Series, dict[int | None, dict[Seed, Measured]]] = {}
    for record in records:
        labels = record["labels"]
        for metric in filter(wanted, record["metrics"]) if record["status"] == "done" else ():
            name = metric["name"]
            if is_valid(record, (name,)):
                series = Series._make([*(labels[field] for field in Series._fields[:-1]), name])
                measured = Measured(record["scores"][name], items_of(record, metric), basis_of(record))
                found.setdefault(series, {}).setdefault(labels["k"], {})[labels["seed"]] = measured
    return found


def is_compared(metric: Metric) -> bool:
    """Whether comparisons have this metric: a headline metric with a better direction."""
    return bool(metric["headline"]) and metric["higher_is_better"] is not None


def directions(records: Iterable[Record]) -> dict[tuple[str, str, str], bool]:
    """(Task, version, metric) -> whether higher is better, for the metrics with a better direction."""
    return {
        (record["labels"]["task"], record["labels"]["task_version"], metric["name"]): better
        for record in records
        for metric in record["metrics"]
        if (better := metric["higher_is_better"]) is not None
    }


def counterpart(series: Series, baseline: str, curves: Curves) -> Series | None:
    """The baseline's series for a series; in the native view if the baseline has no other."""
    for view in (series.view, "native"):
        other = series._replace(variant=baseline, view=view)
        if other in curves:
            return other
    return None


def ordered(curves: Curves, baseline: str) -> list[Series]:
    """The series of all variants but the baseline: by model and site, task and metric, then variant."""
    order = variant_order(series.variant for series in curves)
    metrics = list(dict.fromkeys((series.task, series.task_version, series.metric) for series in curves))
    mine = [series for series in curves if series.variant != baseline]
    return sorted(
        mine,
        key=lambda s: (s[:2], s.task != "core", s.task, metrics.index(s[5:]), order.index(s.variant), s[3:5]),
    )


def at_equal_k(
    records: Sequence[Record], baseline: str, styles: Styles = NO_STYLES
) -> tuple[list[Comparison], list[str]]:
    """Comparisons at equal k and width, corrected over all; and sentences on what cannot be compared."""
    curves, better = curves_of(records, is_compared), directions(records)
    found: list[Comparison] = []
    problems: dict[str, None] = {}
    for series in ordered(curves, baseline):
        other = counterpart(series, baseline, curves)
        for k in sorted(curves[series], key=absent_last):
            against = {} if other is None else curves[other].get(k, {})
            pairs, problem = _pairs(curves[series][k], against)
            if pairs:
                found.append(compared(series, baseline, "k", k, better[series[5:]], pairs))
            else:
                title = variant_style(series.variant, styles).title
                problems[f"{title}, {series.task} {series.metric}: {problem}."] = None
    return corrected(found), list(problems)


def compared(
    series: Series,
    baseline: str,
    at: str,
    place: float | None,
    higher: bool,
    pairs: Sequence[tuple[Measured, Measured]],
) -> Comparison:
    """The comparison of one or more pairs of values, one per seed. The correction is left to `corrected`."""
    seeds = [(own.value, other.value) for own, other in pairs]
    differences = [own - other for own, other in seeds]
    summary = summary_of(differences)
    by_item = _by_item(pairs)
    units, over, interval = differences, "seeds", summary.interval
    if len(pairs) == 1 and by_item:
        weights = [weight for _, weight in by_item]
        units, over = [difference * weight for difference, weight in by_item], "items"
        interval = bootstrap_interval(units, weights, resamples=RESAMPLES)
    return Comparison(
        series,
        baseline,
        at,
        place,
        higher,
        own=math.fsum(own for own, _ in seeds) / len(seeds),
        other=math.fsum(other for _, other in seeds) / len(seeds),
        interval=interval,
        seeds=len(pairs),
        items=len(by_item),
        # A single seed without items is one unit, which no test can say anything about.
        test=paired_permutation(units) if len(units) > 1 else None,
        over=over,
        counts=wins_ties_losses(units, higher),
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction over all of them."""
    tested = [each for each in comparisons if each.test is not None]
    adjusted = iter(holm([each.test.p for each in tested if each.test is not None]))
    return [each if each.test is None else replace(each, p_holm=next(adjusted)) for each in comparisons]


def _pairs(
    own: Mapping[Seed, Measured], other: Mapping[Seed, Measured]
) -> tuple[list[tuple[Measured, Measured]], str]:
    """The values of the seeds that both have, and why there are none."""
    if not other:
        return [], "the baseline has no value at the same k and width"
    both = [(own[seed], other[seed]) for seed in sorted(own, key=absent_last) if seed in other]
    if not both:
        return [], "there is no seed that both have"
    same = [pair for each in both if (pair := _on_the_same(*each)) is not None]
    return same, "it rests on other parts of the data than the baseline, and single items are not recorded"


def _on_the_same(own: Measured, other: Measured) -> tuple[Measured, Measured] | None:
    """The pair with values on the items that both have; None if the values rest on different parts."""
    if own.items and other.items and own.items.keys() != other.items.keys():
        names = own.items.keys() & other.items.keys()
        return (_restricted(own.items, names), _restricted(other.items, names)) if names else None
    return (own, other) if own.basis is None or other.basis is None or own.basis == other.basis else None


def _restricted(items: Items, names: Iterable[str]) -> Measured:
    kept = {name: items[name] for name in items if name in set(names)}
    total = math.fsum(weight for _, weight in kept.values())
    kept = {name: item._replace(weight=item.weight / total) for name, item in kept.items()}
    return Measured(math.fsum(value * weight for value, weight in kept.values()), kept)


def _by_item(pairs: Sequence[tuple[Measured, Measured]]) -> list[tuple[float, float]]:
    """(Difference, weight) of each item in the first pair; empty if a cell has no items."""
    return list(_item_differences(*pairs[0]))


def _item_differences(own: Measured, other: Measured) -> Iterator[tuple[float, float]]:
    if own.items and other.items and own.items.keys() == other.items.keys():
        for name, (value, weight) in own.items.items():
            yield value - other.items[name].value, weight
