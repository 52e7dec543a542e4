"""Which scores of a cell do not mean anything, because a precondition of its task is not met."""

from collections.abc import Iterable, Mapping
from typing import Any

Precondition = Mapping[str, Any]
"""An `abench.Precondition` in a record: with its measured `value`, and with all its metrics by name."""
Record = Mapping[str, Any]


def unmet(record: Record) -> list[Precondition]:
    """The preconditions that a cell with scores does not meet.

    Cells of earlier versions of abench have no preconditions.
    """
    if record["status"] != "done":
        return []
    every = record.get("valid_if") or ()
    return [each for each in every if each["value"] is not None and each["value"] < each["at_least"]]


def invalid_metrics(record: Record) -> dict[str, str]:
    """Metric -> why its score does not mean anything, as a clause; without metrics whose scores do."""
    found: dict[str, list[str]] = {}
    for each in unmet(record):
        clause = f"{each['title']} is {below(each)}, but at least {number(each['at_least'])} is needed"
        for metric in each["metrics"]:
            found.setdefault(metric, []).append(clause)
    return {metric: "; ".join(clauses) for metric, clauses in found.items()}


def is_valid(record: Record, metrics: Iterable[str]) -> bool:
    """Whether the scores of all these metrics of a cell mean something."""
    return not any(metric in each["metrics"] for each in unmet(record) for metric in metrics)


def below(precondition: Precondition) -> str:
    """The value of a precondition that is not met, with enough digits to be below its bound."""
    value, bound = precondition["value"], precondition["at_least"]
    texts = [number(value), *(f"{value:.{digits}g}" for digits in range(3, 18))]
    shown = next((text for text in texts if float(text.replace("−", "-")) < bound), repr(value))
    return shown.replace("-", "−")


def number(value: float) -> str:
    """A number with two decimals, or with three significant digits where these say more."""
    text = f"{value:.2f}" if 0.01 <= abs(value) < 10 else f"{value:.3g}"
    return text.replace("-", "−")
