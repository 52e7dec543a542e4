"""Checks of a task's declaration, made when the task is found and by `abench list tasks --check`.

An invalid declaration makes only its own task unusable. Unchecked, it would break the first report and with
it the tables of all other tasks.
"""

import inspect
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from abench.names import NAME_LENGTH, name_problem
from abench.preconditions import Precondition
from abench.storage.keys import canonical_json
from abench.task import Metric, ModelKind, Task, View

_COLUMNS = frozenset(
    {"model", "site", "variant", "k", "width", "seed", "task", "task_version", "view"}
    | {"metric", "value", "higher_is_better", "status", "key", "valid", "invalid_because"}
    | {"mean", "sd", "n", "N"}
)
"""Columns of a report's data; no metric may have one of these names."""
_CLASS_VARIABLES = (
    *("name", "version", "metrics", "valid_if", "views", "kinds", "in_all", "check_options"),
    *("in_stream_units", "truth"),
)
_SENTENCE_LENGTH = 300
"""Maximum length of a precondition's title and description, which are parts of notes."""


def declaration_problems(task: type[Task]) -> list[str]:
    """All problems of a task's declaration, one sentence each; empty if it is valid.

    Never raises, even if reading the class fails.
    """
    try:
        return list(_problems(task))
    except Exception as error:
        # The class is third-party code: its attributes may have any value, and reading them may fail.
        return [f"its declaration cannot be read: {type(error).__name__}: {error}"]


def metric_problems(metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    """All problems of metrics in the form of records (`asdict` of `abench.Metric`), one sentence each."""
    found: list[str] = []
    names: set[str] = set()
    for metric in metrics:
        name = metric.get("name")
        problem = metric_name_problem(name) or next(_fields(metric), None)
        if problem is None and name in names:
            problem = "it is declared twice"
        if problem is not None:
            found.append(f"metric {name!r}: {problem}")
        elif isinstance(name, str):
            names.add(name)
    return found


def precondition_problems(
    preconditions: Iterable[Mapping[str, Any]], metrics: Iterable[Mapping[str, Any]]
) -> list[str]:
    """All problems of preconditions in the form of records (`asdict` of `abench.Precondition`).

    `metrics` are the valid metrics of the same task, in the form of records.
    """
    found: list[str] = []
    names = {str(metric["name"]) for metric in metrics}
    taken: set[str] = set()
    for each in preconditions:
        name = each.get("name")
        problem = _listed_name_problem(name) or next(_bound_fields(each, names), None)
        if problem is None and name in names | taken:
            problem = "a metric has the same name" if name in names else "it is declared twice"
        if problem is not None:
            found.append(f"precondition {name!r:.120}: {problem}")
        elif isinstance(name, str):
            taken.add(name)
    return found


def _bound_fields(precondition: Mapping[str, Any], metrics: set[str]) -> Iterator[str]:
    bound = precondition.get("at_least")
    if not is_finite(bound):
        yield f"at_least must be a finite number, not {bound!r:.80}"
    for field in ("title", "description"):
        text = precondition.get(field)
        if not isinstance(text, str) or len(text) > _SENTENCE_LENGTH:
            yield f"{field} must be text of at most {_SENTENCE_LENGTH} characters, not {text!r:.80}"
        elif not is_printable(text):
            yield f"{field} contains control characters: {text!r:.80}"
        elif field == "title" and not text.strip():
            yield "title must say what is measured"
    covered = precondition.get("metrics")
    if not isinstance(covered, tuple | list):
        yield f"metrics must be a tuple of metric names, not {covered!r:.80}"
    elif unknown := [each for each in covered if not isinstance(each, str) or each not in metrics]:
        yield f"it names {unknown[0]!r:.80}, which is not one of the task's metrics"


def metric_name_problem(name: object) -> str | None:
    """The reason why a metric cannot have this name, as part of a sentence; None if it can.

    A metric's name is not part of a path, but an element of lists such as `--metrics l0,nmse`.
    """
    if isinstance(name, str) and name in _COLUMNS:
        return f"'{name}' is a column of reports; choose another name"
    return _listed_name_problem(name)


def _listed_name_problem(name: object) -> str | None:
    """The reason why a name cannot be an element of lists, as part of a sentence; None if it can."""
    if not isinstance(name, str):
        return f"its name must be text, not {type(name).__name__}"
    if not 0 < len(name) <= NAME_LENGTH or name != name.strip() or "," in name or not is_printable(name):
        return f"its name must have 1 to {NAME_LENGTH} characters, without commas or control characters"
    return None


def _fields(metric: Mapping[str, Any]) -> Iterator[str]:
    higher, paper = metric.get("higher_is_better"), metric.get("paper")
    if higher is not None and not isinstance(higher, bool):
        yield f"higher_is_better must be True, False or None, not {higher!r}"
    if not isinstance(metric.get("headline"), bool):
        yield f"headline must be True or False, not {metric.get('headline')!r}"
    for name in ("title", "description"):
        text = metric.get(name)
        if not isinstance(text, str):
            yield f"{name} must be text, not {text!r}"
        elif not is_printable(text):
            yield f"{name} contains control characters: {text!r}"
    if not (paper is None or paper in ("score", "1 - score")):
        yield f"paper must be 'score', '1 - score' or None, not {paper!r}"
    items = metric.get("items")
    if items is not None and not (isinstance(items, str) and "*" in items.split(".")):
        yield f"items must be a path with a *, such as datasets.*.accuracy, or None, not {items!r}"


def is_finite(value: object) -> bool:
    """Whether a value is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # an integer, of which JSON can hold larger ones


def is_printable(text: str) -> bool:
    """Whether a text has no control characters; line breaks count as control characters."""
    return not any(unicodedata.category(char) in {"Cc", "Cs"} for char in text)


def _problems(task: type[Task]) -> Iterator[str]:
    for name in _CLASS_VARIABLES:
        if name in task.model_fields:
            yield f"{name} is an option instead of a class variable; annotate it as ClassVar"
            return
    if problem := name_problem(getattr(task, "name", None)):
        yield f"its name: {problem}"
    version = getattr(task, "version", None)
    if not isinstance(version, str) or not version or len(version) > NAME_LENGTH or not is_printable(version):
        yield f'its version must be text such as "1", not {version!r}'
    yield from _metrics(getattr(task, "metrics", None))
    yield from _valid_if(task)
    yield from _choices("views", task.views, get_args(View))
    if isinstance(task.views, tuple) and task.views[:1] != ("native",):
        yield "its views must begin with 'native', the view in which non-negative SAEs are scored"
    yield from _choices("kinds", task.kinds, get_args(ModelKind))
    declared: Any = task  # its attributes need not have the types that `Task` declares
    if not isinstance(declared.in_all, bool):
        yield f"in_all must be True or False, not {declared.in_all!r}"
    if not isinstance(declared.check_options, Mapping):
        yield f"check_options must be a mapping, not {declared.check_options!r}"
    yield from _stream_units(declared)
    yield from _truth(declared)
    yield from option_problems(task)


def _stream_units(task: Any) -> Iterator[str]:
    if not isinstance(task.in_stream_units, frozenset):
        yield f"in_stream_units must be a frozenset of metric names, not {task.in_stream_units!r}"
        return
    names = {each.name for each in task.metrics if isinstance(each, Metric)}
    if isinstance(task.valid_if, tuple):
        names |= {each.name for each in task.valid_if if isinstance(each, Precondition)}
    for unknown in sorted(map(repr, task.in_stream_units - names)):
        yield f"in_stream_units names {unknown}, which is not one of its metrics or preconditions"


def _truth(task: Any) -> Iterator[str]:
    if task.truth is not None and task.truth not in [m.name for m in task.metrics if isinstance(m, Metric)]:
        yield f"its truth must be the name of one of its metrics or None, not {task.truth!r:.80}"


def _valid_if(task: Any) -> Iterator[str]:
    if not isinstance(task.valid_if, tuple):
        yield f"valid_if must be a tuple of abench.Precondition, not {type(task.valid_if).__name__}"
        return
    wrong = [each for each in task.valid_if if not isinstance(each, Precondition) or not is_dataclass(each)]
    if wrong:
        yield f"valid_if must contain abench.Precondition, not {wrong[0]!r:.80}"
        return
    metrics = [asdict(each) for each in task.metrics if isinstance(each, Metric)]
    yield from precondition_problems(map(asdict, task.valid_if), metrics)


def _metrics(metrics: object) -> Iterator[str]:
    if not isinstance(metrics, tuple):
        yield f"its metrics must be a tuple of abench.Metric, not {type(metrics).__name__}"
        return
    if not metrics:
        yield "it declares no metrics"
    wrong = [each for each in metrics if not isinstance(each, Metric) or not is_dataclass(each)]
    if wrong:
        yield f"its metrics must be abench.Metric, not {wrong[0]!r}"
        return
    yield from metric_problems(asdict(metric) for metric in metrics)


def _choices(what: str, given: object, known: tuple[Any, ...]) -> Iterator[str]:
    if not isinstance(given, tuple) or not given:
        yield f"its {what} must be a tuple of {' or '.join(map(repr, known))}, not {given!r}"
        return
    if unknown := [each for each in given if each not in known]:
        yield f"its {what} must be {' or '.join(map(repr, known))}, not {unknown[0]!r}"
    if len(set(map(str, given))) < len(given):
        yield f"its {what} contain a repeated entry"


def option_problems(owner: type[BaseModel]) -> Iterator[str]:
    """Problems that keep the options of a task or variant from being part of a key.

    They are only checked if all options have defaults.
    """
    if inspect.isabstract(owner) or any(field.is_required() for field in owner.model_fields.values()):
        return
    try:
        canonical_json(owner().model_dump(mode="json"))
    except ValidationError as error:
        first = error.errors()[0]
        yield f"its options' defaults are invalid: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    except Exception as error:
        # pydantic and json raise many types of errors for values that they cannot serialise.
        yield f"its options cannot be written as JSON, which keys need: {type(error).__name__}: {error}"
