"""Controls: random directions and random latents at the strengths that the methods chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from abench.judges import share

from .declared import RULES, SHARES
from .methods import Method, Setting
from .search import OutcomeJson, Search, plain


def control_of(search: Search, steer: Mapping[str, Any], random: Method) -> dict[str, Any]:
    """For each rule, the outcome of random candidates on the test data, at the strength that the rule chose.

    What any push of this length does. A direction that is removed is compared with random directions that are
    removed. Where the rule did not steer, the control is the unsteered model. `chosen` is missing if there is
    no random candidate, or none with finite logits.
    """
    known: dict[float | None, list[OutcomeJson]] = {}
    found: dict[str, Any] = {}
    for rule, choice in ((rule, steer["rules"][rule]) for rule in RULES):
        strength = choice["strength"]
        control: dict[str, Any] = {"strength": strength}
        if not choice["steered"]:
            control["chosen"] = search.original["test"]
        else:
            if strength not in known:
                known[strength] = _outcomes(search, random, strength)
            if known[strength]:
                control["chosen"] = _pooled(known[strength])
        found[rule] = control
    return found


def _outcomes(search: Search, random: Method, strength: float | None) -> list[OutcomeJson]:
    """The outcome of each random candidate with finite logits."""
    if strength is None:
        # Only a direction has no strength, so these are directions.
        candidates: Any = random.candidates
        removed = [replace(each, way="ablate") for each in candidates]
        random = Method(removed, random.norm)
    numbers = search.test.ctx.track(range(len(random.candidates)), "safety_utility: controls", "controls")
    rows = (plain(search.test, random.at(Setting(number, strength))) for number in numbers)
    return [row for row in rows if row is not None]


def _pooled(rows: Sequence[OutcomeJson]) -> OutcomeJson:
    """The shares over the requests and questions of all rows."""
    pooled: OutcomeJson = {}
    for name in SHARES:
        hits = sum(round(row[name][0] * row[name][3]) for row in rows)
        each = share(hits, sum(row[name][3] for row in rows))
        pooled[name] = [each.value, each.low, each.high, each.n]
    return {**pooled, "invalid": sum(row["invalid"] for row in rows), "draws": len(rows)}
