"""Every number of every spec has bounds and is a finite number; a walk over all specs leaves none out."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from abench.config import ModelConfig, RunConfig
from abench.config.synthetic_spec import SyntheticSpec
from abench.plugins import find_tasks
from abench.variants import get_variant, variant_names

SPECS: tuple[type[BaseModel], ...] = (
    RunConfig,
    ModelConfig,
    SyntheticSpec,
    *(type(get_variant(name)) for name in variant_names()),
    *(each.value for each in find_tasks().values() if each.value is not None),
)
LOWER, UPPER = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}


def numbers(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """The numbers in a JSON schema, nested ones included, each with where it stands."""
    if isinstance(node, dict):
        if node.get("type") in ("integer", "number"):
            yield "/".join(path), node
        for key, value in node.items():
            if key != "default":
                yield from numbers(value, (*path, key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from numbers(value, (*path, str(number)))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.__name__)
def test_every_number_has_a_lower_and_an_upper_bound(spec: type[BaseModel]) -> None:
    found = dict(numbers(spec.model_json_schema()))
    assert [where for where, node in found.items() if not (LOWER & node.keys() and UPPER & node.keys())] == []


def test_the_walk_sees_what_has_no_bounds() -> None:
    class Loose(BaseModel):
        pair: tuple[float, int] | None = None

    assert len(list(numbers(Loose.model_json_schema()))) == 2


ALONE = {"", "anyOf/0"}
"""Where a number stands in the schema of a field that is a number, or a number or null."""


def fields(spec: type[BaseModel]) -> list[str]:
    """Names of the fields that are a number, alone."""
    schema = spec.model_json_schema()["properties"]
    return [name for name, node in schema.items() if {where for where, _ in numbers(node)} & ALONE]


LOOKALIKES = (True, "3", "1e-3", float("inf"), float("nan"), 10**400, -(10**30), {}, [[]])


@pytest.mark.parametrize(
    ("spec", "field"),
    [(spec, field) for spec in SPECS for field in fields(spec)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_number_is_taken_from_anything_else(spec: type[BaseModel], field: str) -> None:
    for value in LOOKALIKES:
        with pytest.raises(ValidationError) as caught:
            spec.model_validate({field: value})
        assert field in {problem["loc"][0] for problem in caught.value.errors() if problem["loc"]}, value


def test_all_specs_of_a_run_are_walked() -> None:
    names = {spec.__name__ for spec in SPECS} | set(RunConfig.model_json_schema()["$defs"])
    assert {"TrainingSpec", "EvaluationSpec", "DataSpec", "JumpReLU", "SCR", "Core"} <= names
