"""Values as a spec; each mistake in them is a sentence with file, line and near names."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from abench import yamlfile
from abench.errors import UserError, did_you_mean
from abench.secrets import UNSHOWN

Spec = TypeVar("Spec", bound=BaseModel)


def check(spec: type[Spec], values: Mapping[str, Any], *, where: str, text: str = "") -> Spec:
    """`spec` built from `values`; a UserError with one sentence a mistake where they do not fit."""
    try:
        return spec.model_validate(values)
    except ValidationError as error:
        sentences = [_sentence(spec, problem, where, text) for problem in error.errors()]
        raise UserError("\n".join(sentences)) from error


def _sentence(spec: type[BaseModel], problem: Any, where: str, text: str) -> str:
    path: tuple[str | int, ...] = tuple(problem["loc"])
    line = yamlfile.line_of(text, path) if text else None
    place = f"{where}:{line}" if line else where
    key = ".".join(str(step) for step in path)
    if problem["type"] == "extra_forbidden":
        return f"{place}: unknown key '{key}'{did_you_mean(str(path[-1]), _keys_at(spec, path[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    shown = _is_scalar(problem["input"]) and path and problem["type"] != UNSHOWN
    given = f" (got {problem['input']!r})" if shown else ""
    return f"{place}: {key}: {message}{given}" if key else f"{place}: {message}"


def _keys_at(spec: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that `spec` knows at a key path."""
    for step in path:
        field = spec.model_fields.get(str(step))
        inner = [t for t in _types_of(field.annotation) if issubclass(t, BaseModel)] if field else []
        if not inner:
            return []
        spec = inner[0]
    return list(spec.model_fields)


def _types_of(annotation: Any) -> list[type]:
    options = getattr(annotation, "__args__", None) or (annotation,)
    return [option for option in options if isinstance(option, type)]


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)
