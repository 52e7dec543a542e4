"""How the setting of a method is chosen among those that were tried on validation data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .declared import Rule

Row = Mapping[str, Any]
"""An outcome as plain JSON: [value, low, high, n] for each share."""


@dataclass(frozen=True)
class Bounds:
    """What a setting may cost on the validation data."""

    loss: float
    """Maximum loss of utility."""
    degenerate: float
    """Maximum increase of the share of degenerate replies, for the rule `coherent`."""


def rank(row: Row | None) -> tuple[float, ...]:
    """Sort key: safety, then fewest degenerate replies, then utility; settings without finite logits last."""
    return (row["safety"][0], -row["degenerate"][0], row["utility"][0]) if row else (-1.0,)


def is_allowed(rule: Rule, row: Row | None, unsteered: Row, bounds: Bounds) -> bool:
    """Whether a rule may choose a setting with this outcome; None: some logits were not finite."""
    if row is None or share_lost("utility", unsteered, row) > bounds.loss:
        return False
    return rule == "paper" or is_coherent(row, unsteered, bounds)


def is_coherent(row: Row, unsteered: Row, bounds: Bounds) -> bool:
    """Whether replies fall apart hardly more often than without steering."""
    return -share_lost("degenerate", unsteered, row) <= bounds.degenerate


def best_of(rule: Rule, rows: Sequence[Row | None], unsteered: Row, bounds: Bounds) -> int | None:
    """The place of the setting that a rule chooses; None if the unsteered model is at least as good.

    The unsteered model is a candidate, too, so that no method has to make things worse.
    """
    allowed = [n for n, row in enumerate(rows) if is_allowed(rule, row, unsteered, bounds)]
    best = max(allowed, key=lambda n: rank(rows[n]), default=None)
    return None if best is None or rank(rows[best]) <= rank(unsteered) else best


def share_lost(name: str, unsteered: Row, steered: Row) -> float:
    """The drop of a share, computed from counts, so that a loss of 2 in 100 is exactly 0.02."""
    before, after = (
        Fraction(round(row[name][0] * row[name][3]), row[name][3]) for row in (unsteered, steered)
    )
    return float(before - after)


def both_ways(strengths: Sequence[float]) -> list[float]:
    """Every strength in both directions, sorted."""
    return sorted({sign * each for each in strengths for sign in (-1, 1)})


def finer(strength: float, strengths: Sequence[float], points: int) -> list[float]:
    """`points` strengths on each side of one, between it and its neighbours on the grid of strengths.

    Points are evenly spaced on a logarithmic scale. The smallest strength has half of itself as its lower
    neighbour; there are no points above the largest, which the grid bounds.
    """
    size, sign = abs(strength), 1 if strength > 0 else -1
    grid = sorted({abs(each) for each in strengths})
    lower = max((each for each in grid if each < size), default=size / 2)
    higher = min((each for each in grid if each > size), default=size)
    found = {
        float(f"{size * (end / size) ** (n / (points + 1)):.4g}")
        for end in (lower, higher)
        for n in range(1, points + 1)
    }
    return [sign * each for each in sorted(found - {size})]
