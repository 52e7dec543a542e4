"""Sentences for wrong values: pydantic's errors in plain words."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from abench.errors import did_you_mean, short
from abench.sanitize.secrets import UNSHOWN

_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda limit: f"must be at least {_plain(limit['ge'])}",
    "greater_than": lambda limit: f"must be above {_plain(limit['gt'])}",
    "less_than_equal": lambda limit: f"must be at most {_plain(limit['le'])}",
    "less_than": lambda limit: f"must be below {_plain(limit['lt'])}",
    "finite_number": lambda _: "must be a finite number",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "string_type": lambda _: "must be text",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda limit: f"must have at most {limit['max_length']:,} characters",
    "string_pattern_mismatch": lambda limit: f"must match {limit['pattern']}",
    "literal_error": lambda limit: f"must be {limit['expected']}",
    "tuple_type": lambda _: "must be a list",
    "list_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a mapping of keys to values",
    "model_type": lambda _: "must be a mapping of keys to values",
    "mapping_type": lambda _: "must be a mapping of keys to values",
    "too_long": lambda limit: f"must have at most {limit['max_length']:,} items",
    "missing": lambda _: "is missing",
}


def complaint(subject: str, problem: Mapping[str, Any]) -> str:
    """A sentence for one problem of a ValidationError, e.g. `k must be at least 1 (got 0)`."""
    kind = problem["type"]
    shown = isinstance(problem["input"], str | int | float | bool) and kind != UNSHOWN
    given = f" (got {short(problem['input'])})" if shown else ""
    if kind == "too_short" and problem["ctx"]["min_length"] == 1:
        return f"{subject}: at least one is needed"
    if kind in _WORDS:
        return f"{subject} {_WORDS[kind](problem.get('ctx', {}))}{given}"
    message = problem["msg"].removeprefix("Value error, ")
    if not subject:
        return str(message)
    # Messages of abench's own validators may already contain the value.
    shown_already = short(problem["input"]) in message
    return f"{subject}: {message}{'' if shown_already else given}"


def option_complaint(owner: str, known: Iterable[str], problem: Mapping[str, Any]) -> str:
    """A sentence for one problem of a ValidationError with the options of `owner`, e.g. `task 'core'`."""
    path = problem["loc"]
    if problem["type"] == "extra_forbidden":
        option = str(path[-1])
        return f"{owner} has no option {short(option)}{did_you_mean(option, known)}"
    items, of, option = named(path).rpartition(" of ")
    return complaint(f"{items}{of}option '{option}' of {owner}" if path else owner, problem)


def named(path: tuple[str | int, ...]) -> str:
    """A key path as messages show it: `training.tokens`, `item 2 of training.betas`."""
    keys = list(path)
    items = ""
    while keys and isinstance(keys[-1], int):
        items += f"item {int(keys.pop()) + 1} of "
    return items + ".".join(map(str, keys))


def _plain(limit: float) -> str:
    """The limit in readable form: `1` instead of `1.0`, with commas between thousands."""
    return f"{int(limit):,}" if limit == int(limit) else f"{limit:g}"
