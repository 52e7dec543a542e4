"""The base class of all descriptions from YAML, the command line or Python: frozen and checked."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from abench.errors import short

LARGEST_INT = 2**63 - 1
"""The largest whole number that a tensor can hold."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that all random number generators in use accept."""
Count = Annotated[int, Field(ge=1, le=10**7)]
"""A number of items that are in memory together or processed one by one: items, contexts, rows."""
TokenCount = Annotated[int, Field(ge=1, le=10**14)]
"""A total number of tokens or activations; the largest language models are trained on some 10^13."""
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=0, le=1e6)]
"""A weight or size that may be 0."""
PositiveFactor = Annotated[float, Field(gt=0, le=1e6)]
Word = Annotated[str, Field(min_length=1, max_length=4096)]
"""A name, a path or a hub id."""
Prose = Annotated[str, Field(max_length=100_000)]


class Spec(BaseModel):
    """A frozen description. Unknown keys are errors, and numbers must be finite and written as numbers.

    Pydantic alone would accept `true` as 1, the text `"3"` as 3, and infinity as a learning rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = kinds_in(cls.model_fields[info.field_name or ""].annotation)
        if kinds & {int, float}:
            _refuse_lookalikes(value, kinds)
        return value


def kinds_in(annotation: Any) -> set[Any]:
    """The types of values that an annotation allows, including those in unions, lists and mappings."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is None:
        return {annotation}
    if origin is Literal:
        return {type(value) for value in inner}
    if origin is Annotated:
        return kinds_in(inner[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = inner[1:]
    return {origin}.union(*map(kinds_in, inner))


def _refuse_lookalikes(value: Any, kinds: set[Any]) -> None:
    """Raise ValueError for a value that must be a number but is not, or is too large to compute with."""
    if isinstance(value, bool) and bool not in kinds:
        # YAML 1.1 also reads `no` and `off` as False, which would count as 0.
        raise ValueError("a number is needed, not true or false")
    if isinstance(value, str) and str not in kinds:
        raise ValueError("a number is needed, not text")
    if isinstance(value, int) and not -LARGEST_INT <= value <= LARGEST_INT:
        raise ValueError(f"{short(value)} is too large")
    for each in value.values() if isinstance(value, Mapping) else value if _is_list(value) else ():
        _refuse_lookalikes(each, kinds)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)
