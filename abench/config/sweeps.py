"""Options with several values: a list for an option that takes no list stands for one SAE per value."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import inf, prod
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from abench.errors import OptionError, short

MOST_SETTINGS = 10_000
"""Most combinations of values; a run cannot have more SAEs."""

_LISTS = (list, tuple, set, frozenset, Sequence)

Setting = tuple[dict[str, Any], dict[str, Any]]
"""(The options of which there are several values, all options): one combination of values."""


def settings(spec: type[BaseModel], values: Mapping[str, Any]) -> list[Setting]:
    """Every combination of the values of options that are lists although the option takes none.

    The first option varies slowest. Lists for options that take lists are values as they are, so a sweep over
    these is a list of lists. Raises OptionError for an empty list, repeated values or too many combinations.
    """
    lists = {key: list(value) for key, value in values.items() if _is_sweep(spec, key, value)}
    for key, each in lists.items():
        if not each:
            raise OptionError("at least one value is needed", (key,))
        repeated = [short(value) for place, value in enumerate(each) if value in each[:place]]
        if repeated:
            raise OptionError(f"given more than once: {', '.join(repeated)}", (key,))
    if (number := prod(map(len, lists.values()))) > MOST_SETTINGS:
        raise OptionError(
            f"there are {number:,} combinations of values, but at most {MOST_SETTINGS:,} are allowed",
            (next(iter(lists)),),
        )
    several = [key for key, each in lists.items() if len(each) > 1]
    combined = (dict(zip(lists, each, strict=True)) for each in product(*lists.values()))
    return [({key: each[key] for key in several}, {**values, **each}) for each in combined]


def _is_sweep(spec: type[BaseModel], key: str, value: Any) -> bool:
    field = spec.model_fields.get(str(key))
    return field is not None and _nested_beyond(value, _list_depth(field.annotation))


def _nested_beyond(value: Any, depth: float) -> bool:
    """Whether a value is a list in which lists are nested more deeply than the option allows."""
    if not isinstance(value, list | tuple):
        return False
    return depth == 0 or any(_nested_beyond(each, depth - 1) for each in value)


def _list_depth(annotation: Any) -> float:
    """How deeply the lists that an annotation allows are nested: 0 for none, infinite for anything."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (Any, object) or annotation in _LISTS:
        return inf
    if origin is None or origin is Literal:
        return 0
    if origin is Annotated:
        return _list_depth(inner[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return 0
    within = max((_list_depth(each) for each in inner if each is not Ellipsis), default=0)
    return within + 1 if origin in _LISTS else within
