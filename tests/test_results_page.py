"""The page of results on a real model: its numbers are those of the cells, its verdicts follow from them."""

import math
from statistics import mean, stdev
from typing import Any

import pytest
from generators import results
from generators.claims import (
    CLAIMS,
    HOLDS,
    OPEN,
    REVERSED,
    UNDECIDED,
    Claim,
    claim_rows,
    compared,
    verdict_of,
)
from generators.tasks import built_in

EVERY = [claim for claims in CLAIMS.values() for claim in claims]
LOWER = Claim("A is lower than B", "—", "core", "nmse", higher=False, baseline="b", variant="a")


def test_the_page_and_the_readme_are_what_the_cells_give() -> None:
    assert results.PAGE.read_text(encoding="utf-8") == results.text(), "run `python docs/build_results.py`"
    assert results.README.read_text(encoding="utf-8") == results.readme(), (
        "run `python docs/build_results.py`"
    )
    assert results.means("reconstruction core") in results.readme()


@pytest.mark.parametrize("claim", EVERY, ids=lambda claim: claim.text)
def test_a_claim_is_about_a_metric_that_exists(claim: Claim) -> None:
    assert claim.metric in {metric.name for metric in built_in()[claim.task].metrics}


def cells(variant: str, values: list[float], k: int = 8) -> list[dict[str, Any]]:
    labels = {"model": "m", "site": "s", "variant": variant, "k": k, "width": 64, "view": "native"}
    task = {"task": "core", "task_version": "1"}
    metrics = [{"name": "nmse", "headline": True, "higher_is_better": False, "title": ""}]
    return [
        {"key": f"{variant}{seed}", "status": "done", "labels": {**labels, **task, "seed": seed}}
        | {"metrics": metrics, "scores": {"nmse": value}, "details": {}, "parts": [], "valid_if": []}
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("own", "verdict"),
    [
        ([0.10, 0.11, 0.12], HOLDS),
        ([0.30, 0.31, 0.32], REVERSED),
        ([0.10, 0.31, 0.20], UNDECIDED),
        ([0.10], UNDECIDED),
    ],
)
def test_a_verdict_follows_from_the_interval_over_seeds(own: list[float], verdict: str) -> None:
    other = [0.20, 0.21, 0.23][: len(own)]
    (found,) = compared(LOWER, [*cells("a", own), *cells("b", other)])
    assert verdict_of(found) == verdict
    if len(own) == 3:
        differences = [a - b for a, b in zip(own, other, strict=True)]
        half = 4.302653 * stdev(differences) / math.sqrt(3)  # Student's t, two degrees of freedom
        assert found.interval is not None
        assert found.interval.low == pytest.approx(mean(differences) - half, rel=1e-5)


def test_what_is_not_computed_is_named() -> None:
    (row,) = claim_rows([LOWER], cells("a", [0.1, 0.2]))
    assert row[-1] == OPEN
