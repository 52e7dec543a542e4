"""The figures of reliability of each metric, from the records of a study's cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from abench.report.validity import is_valid
from abench.statistics import smallest_difference, summary_of

Record = Mapping[str, Any]


class Place(NamedTuple):
    """A metric of a task in one view, for one variant at one sparsity of a model and site."""

    model: str
    site: str
    variant: str
    k: int | None
    width: int
    task: str
    task_version: str
    view: str
    metric: str


Values = Mapping[Place, Sequence[float]]


@dataclass(frozen=True)
class Figures:
    """How far a metric can be trusted. An absent figure could not be measured."""

    place: Place
    title: str
    headline: bool
    mean: float | None
    """Over the evaluation seeds."""
    reseed: float | None
    """Reseed noise: standard deviation over evaluation seeds, of one SAE."""
    reseeds: int
    """Number of evaluation seeds with a value."""
    training: float | None
    """Training noise: standard deviation over seeds of the SAE."""
    trainings: int
    """Number of SAEs with a value."""
    discrimination: float | None
    """Standard deviation of the scores at 5, 10, 25, 50 and 100 % of the training tokens, over the noise of
    one score, √(reseed² + training²)."""
    resolves: float | None
    """The smallest difference of two variants that as many seeds as were trained can resolve, given both
    kinds of noise."""
    truth: str | None = None
    """The task and the metric that state the known truth; None if there is none for this model."""
    validity: float | None = None
    """Spearman's rank correlation with the truth over the SAEs of the study. None for the truth itself, for
    fewer than four SAEs, and if the metric or the truth does not vary."""
    validity_p: float | None = None
    """The p value of its permutation test."""
    validity_n: int = 0
    """Number of SAEs with a score and a truth."""
    validity_low: float | None = None
    """The lower end of the 95 % interval of `validity`; None where the correlation is 1 or −1."""
    validity_high: float | None = None

    @property
    def is_truth(self) -> bool:
        """Whether this metric is itself the truth."""
        return self.truth == f"{self.place.task}.{self.place.metric}"


def values_of(records: Iterable[Record]) -> dict[Place, list[float]]:
    """The meaningful scores by place, in the order of the records."""
    found: defaultdict[Place, list[float]] = defaultdict(list)
    for record in records:
        for metric in record["metrics"] if record["status"] == "done" else ():
            if is_valid(record, (metric["name"],)):
                found[_place(record, metric)].append(float(record["scores"][metric["name"]]))
    return dict(found)


def figures_of(
    records: Sequence[Record], reseeded: Values, trained: Values, by_share: Sequence[Values]
) -> list[Figures]:
    """The figures of every metric of the records, which name the metrics; those of `core` first."""
    titles = {
        _place(r, m): (m["title"] or m["name"], bool(m["headline"])) for r in records for m in r["metrics"]
    }
    order = sorted(titles, key=lambda place: (place[:5], place.task != "core", place.task, place.view))
    return [
        _figures(place, *titles[place], reseeded.get(place, ()), trained.get(place, ()), by_share)
        for place in order
    ]


def _figures(
    place: Place,
    title: str,
    headline: bool,
    reseeded: Sequence[float],
    trained: Sequence[float],
    by_share: Sequence[Values],
) -> Figures:
    reseed, training = _sd(reseeded), _sd(trained)
    noise = None if reseed is None or training is None else math.hypot(reseed, training)
    scores = [value for values in by_share for value in values.get(place, ())]
    signal = _sd(scores) if len(scores) == len(by_share) else None
    return Figures(
        place,
        title,
        headline,
        mean=fmean(reseeded) if reseeded else None,
        reseed=reseed,
        reseeds=len(reseeded),
        training=training,
        trainings=len(trained),
        discrimination=signal / noise if signal is not None and noise else None,
        resolves=None if noise is None else smallest_difference(noise, len(trained)),
    )


def _sd(values: Sequence[float]) -> float | None:
    return summary_of(values).sd if len(values) > 1 else None


def _place(record: Record, metric: Mapping[str, Any]) -> Place:
    labels = record["labels"]
    return Place._make([*(labels[name] for name in Place._fields[:-1]), metric["name"]])
