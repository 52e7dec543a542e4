"""Records in a form that reports can show: a task's faults affect only its own cells, which report them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abench.declaration import is_finite, metric_problems, precondition_problems
from abench.report.frame import Record
from abench.sanitize.printable import all_visible, visible

_TEXTS = ("labels", "parts", "reason", "details", "provenance", "valid_if", "about")

Metrics = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Declared:
    """The metrics of a task as declared in a record, and in a form that tables can show."""

    given: Metrics
    shown: Metrics
    problem: str | None


def sound_records(records: Iterable[Record]) -> list[Record]:
    """The records, with visible signs in place of invisible control characters.

    A cell whose metrics, scores or preconditions cannot be shown becomes a failed cell with the reason. Equal
    metrics of several records become one object.
    """
    declared: dict[Any, _Declared] = {}
    return [_sound(record, declared) for record in records]


def _sound(record: Record, declared: dict[Any, _Declared]) -> Record:
    metrics = _declared(record, declared)
    texts = {name: record[name] for name in _TEXTS if name in record}
    shown = all_visible(texts)
    changed = {} if shown is texts else dict(shown)
    if metrics.shown is not record["metrics"]:
        changed["metrics"] = metrics.shown
    problem = metrics.problem
    if problem is None and record["status"] == "done":
        problem = _score_problem(record["scores"], metrics.shown)
        problem = problem or _precondition_problem(shown.get("valid_if"), metrics.shown)
    if problem is not None:
        changed |= {"status": "failed", "scores": {}, "reason": visible(problem)}
    return {**record, **changed} if changed else record


def _declared(record: Record, declared: dict[Any, _Declared]) -> _Declared:
    place, given = record["labels"]["task"], record["metrics"]
    known = declared.get(place)
    if known is None or known.given != given:
        known = declared[place] = _checked(str(place), given)
    return known


def _checked(task: str, given: Metrics) -> _Declared:
    if not isinstance(given, Sequence) or not all(isinstance(metric, Mapping) for metric in given):
        return _Declared(given, _stand_in(task, ()), f"the metrics of task {task} are not a list of metrics")
    problems = metric_problems(given)
    if not problems and given:
        return _Declared(given, all_visible(given), None)
    reason = "; ".join(problems) or "there are none"
    return _Declared(given, _stand_in(task, given), f"task {task} declares invalid metrics: {reason}")


def _stand_in(task: str, given: Metrics) -> Metrics:
    """Substitutes for a task's invalid metrics: its valid ones, plus a headline metric if none is left."""
    kept: list[Mapping[str, Any]] = []
    for metric in given:
        if not metric_problems([*kept, metric]):
            kept.append(all_visible(metric))
    if any(metric["headline"] for metric in kept):
        return kept
    name = "score" if all(metric["name"] != "score" for metric in kept) else "no_score"
    heading = {"name": name, "title": "score", "higher_is_better": None, "headline": True}
    return [*kept, heading | {"description": f"what task {task} should have measured", "paper": None}]


def _score_problem(scores: object, metrics: Metrics) -> str | None:
    if not isinstance(scores, Mapping):
        return "its scores are not a mapping of metrics to numbers"
    wrong = [metric["name"] for metric in metrics if not is_finite(scores.get(metric["name"]))]
    return f"no finite number was recorded for {', '.join(wrong)}" if wrong else None


def _precondition_problem(preconditions: object, metrics: Metrics) -> str | None:
    """Why it is unknown whether a cell's scores mean anything; None for a cell of an earlier version, too."""
    if preconditions is None:
        return None
    if not isinstance(preconditions, list | tuple) or not all(isinstance(p, Mapping) for p in preconditions):
        return "its preconditions are not a list of preconditions"
    if problems := precondition_problems(preconditions, metrics):
        return f"it has invalid preconditions: {'; '.join(problems)}"
    values = ((each["name"], each.get("value", math.nan)) for each in preconditions)
    wrong = [name for name, value in values if not (value is None or is_finite(value))]
    return f"no finite number was recorded for its precondition {', '.join(wrong)}" if wrong else None
