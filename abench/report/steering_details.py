"""What cells store about steering, as written by any version of the task safety_utility.

Since version 5, a method has a choice for each of two rules and a curve on validation data. Before, it had
the paper's rule only, and a curve of its chosen candidate on test data.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Values = Mapping[str, Any]
"""The outcome of a setting; a share is [value, low, high, n]."""

RULES = ("coherent", "paper")
"""Rules by which a setting is chosen, in the order of tables."""
RULE_TITLES = {"coherent": "coherent replies", "paper": "paper's rule"}
PREFIX = {"coherent": "coherent_", "paper": ""}
"""Start of the names of a rule's metrics."""


def rules_of(method: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Rule -> the choice of a method: `candidate`, `strength`, `steered`, and `chosen`, its test outcome.

    `chosen` may be missing for a control.
    """
    if "rules" in method:
        return {rule: method["rules"][rule] for rule in RULES if rule in method["rules"]}
    unit = {"unit": method["candidate"]["unit"]} if "unit" in method["candidate"] else {}
    return {"paper": {**method, **unit, "number": 0, "steered": method["strength"] != 0}}


def unit_of(method: Mapping[str, Any]) -> float | None:
    """The length of a strength of 1, in the residual stream; None if it is not stored."""
    found = method.get("unit", method["candidate"].get("unit") if "candidate" in method else None)
    return None if found is None else float(found)


def curve_of(method: Mapping[str, Any]) -> Iterator[tuple[int, float | None, Values | None]]:
    """(candidate, strength, outcome) of each setting; None for an ablation, or for logits not finite.

    Of the candidates that were tried at all strengths, only those that a rule chose, or the first one.
    """
    if "settings" not in method:
        yield from ((0, row["strength"], row if "utility" in row else None) for row in method["sweep"])
        return
    choices = rules_of(method).values()
    shown = {choice["number"] for choice in choices if choice["steered"]} or {
        choice["number"] for choice in choices
    }
    for row in method["settings"]:
        if row["candidate"] in shown:
            yield row["candidate"], row["strength"], row if "utility" in row else None


def broken_strengths(method: Mapping[str, Any]) -> list[float]:
    """The strengths at which some logits of any candidate were not finite, sorted."""
    rows = method["settings"] if "settings" in method else method["sweep"]
    return sorted({row["strength"] for row in rows if "utility" not in row and row["strength"] is not None})


def unsteered_beside_curve(kept: Mapping[str, Any]) -> Values:
    """The unsteered model's outcome on the data of the curves."""
    found: Values = kept.get("original_validation", kept["original"])
    return found


def choice_text(method: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
    """A choice as a clause."""
    candidate, strength = choice["candidate"], choice["strength"]
    if not choice["steered"]:
        return "not steered, because no allowed setting increased safety"
    if "latent" not in candidate:
        where = _where(candidate.get("by", candidate.get("pooling", "")))
        removed = candidate["method"] == "ablation"
        return f"difference in means {where}" + (" removed" if removed else f", strength {signed(strength)}")
    sign = 1 if candidate["pole"] == "+" else -1
    value = signed(sign * strength * (unit_of(method) or 1.0), ".3g")
    found = _found_by(candidate)
    return f"latent {candidate['latent']} ({found}), clamped to {value}, strength {signed(strength)}"


def _found_by(candidate: Mapping[str, Any]) -> str:
    if "by" not in candidate:
        return f"chosen {_where(candidate['pooling'])}"
    criterion, _, pooling = str(candidate["by"]).partition(", ")
    return f"by {criterion}" + (f" {_where(pooling)}" if pooling else " towards refusal")


def _where(pooling: str) -> str:
    known = {"mean": "over all tokens", "last": "at the last token"}
    return known.get(pooling) or f"at token {pooling.replace('-', '−')} from the end"


def signed(number: float, form: str = "g") -> str:
    """A number with a typographic minus."""
    return f"{number:{form}}".replace("-", "−")
