"""Whether a metric orders SAEs as the known truth does: rank correlations over the SAEs of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abench.reliability.figures import Figures, Place, Record
from abench.report.validity import is_valid
from abench.statistics import rank_correlation

Truths = Mapping[str, str]
"""Task -> its metric that states how well an SAE finds what is known to be in the model."""
_SHARED = tuple(name for name in Place._fields if name not in {"variant", "metric"})
"""What SAEs must have in common to be compared with each other."""


@dataclass(frozen=True)
class Truth:
    """The true quality of the SAEs of a study, as one task measures it."""

    task: str
    metric: str
    by_sae: Mapping[str, float]
    """Key of the SAE -> score."""


def truth_of(records: Iterable[Record], truths: Truths) -> Truth | None:
    """The truth with the most SAEs, the first of several; None if no record has such a score."""
    found: dict[str, dict[str, float]] = {}
    for record in records:
        task = record["labels"]["task"]
        if task in truths and _has_score(record, truths[task]):
            found.setdefault(task, {})[record["sae_key"]] = float(record["scores"][truths[task]])
    most = max(found, key=lambda task: len(found[task]), default=None)
    return None if most is None else Truth(most, truths[most], found[most])


def why_unknown(records: Iterable[Record], truths: Truths) -> str:
    """Why there is no truth, as a sentence without its period."""
    reasons = {
        f"{record['labels']['task']}: {record['reason']}": None
        for record in records
        if record["labels"]["task"] in truths and record.get("reason")
    }
    return "; ".join(reasons) or "no task knows what is in this model"


def with_validity(
    figures: Iterable[Figures], records: Sequence[Record], truth: Truth | None
) -> list[Figures]:
    """The figures with the rank correlations of their metrics with the truth, if there is one.

    The SAEs of a correlation share model, site, k and width; their variant may differ. Positive if better
    scores belong to truly better SAEs; if neither direction is better, if higher scores do.
    """
    if truth is None:
        return list(figures)
    better = {(r["labels"]["task"], m["name"]): m["higher_is_better"] for r in records for m in r["metrics"]}
    return [
        replace(each, truth=f"{truth.task}.{truth.metric}", **_validity(each.place, records, truth, better))
        for each in figures
    ]


def _validity(
    place: Place, records: Sequence[Record], truth: Truth, better: Mapping[tuple[str, str], bool | None]
) -> dict[str, Any]:
    if (place.task, place.metric) == (truth.task, truth.metric):
        return {}  # it would be 1, which says nothing
    scores = {
        record["sae_key"]: float(record["scores"][place.metric])
        for record in records
        if all(record["labels"][name] == getattr(place, name) for name in _SHARED)
        and record["sae_key"] in truth.by_sae
        and _has_score(record, place.metric)
    }
    sign = -1 if better[place.task, place.metric] is False else 1
    found = rank_correlation(
        [sign * score for score in scores.values()], [truth.by_sae[sae] for sae in scores]
    )
    if found is None:
        return {"validity_n": len(scores)}
    ends = found.interval or (None, None)
    interval = dict(zip(("validity_low", "validity_high"), ends, strict=True))
    return {"validity": found.rho, "validity_p": found.p, "validity_n": found.n, **interval}


def _has_score(record: Record, metric: str) -> bool:
    return record["status"] == "done" and metric in record["scores"] and is_valid(record, (metric,))
