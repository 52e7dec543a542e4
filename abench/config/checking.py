"""Values to specs; each mistake becomes a sentence with file, line and near names."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from abench.config.complaints import complaint, named
from abench.config.sources import Sources
from abench.errors import UserError, did_you_mean, short
from abench.yamlfile import Document, KeyPath

S = TypeVar("S", bound=BaseModel)
_MOST_SENTENCES = 10
_WRONG_KIND = frozenset(
    {"tuple_type", "list_type", "dict_type", "mapping_type", "int_type", "int_parsing", "literal_error"}
)
"""Types of problems that mean: this branch of a union is for other kinds of values."""


def check(spec: type[S], values: Mapping[str, Any], *, where: str = "", sources: Sources | None = None) -> S:
    """An instance of `spec` built from `values`.

    Raises UserError with one sentence per mistake. Each names the origin of the value if `sources` is given,
    otherwise `where`.
    """
    at = sources or Sources([Document(where, values)])
    try:
        return spec.model_validate(values)
    except ValidationError as error:
        problems = _first_of_each(error.errors(include_url=False), values)
        sentences = [_sentence(spec, problem, at) for problem in problems[:_MOST_SENTENCES]]
        if len(problems) > _MOST_SENTENCES:
            sentences.append(f"and {len(problems) - _MOST_SENTENCES} more mistakes")
        raise UserError("\n".join(sentences)) from error


def clearest(problems: Sequence[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The problem of the first wrong value that says most about it, with the value's path.

    Of the branches of a union, one that allows values of this kind says more than one that does not.
    """
    paths = [_without_branches(problem, values) for problem in problems]
    same = [number for number, path in enumerate(paths) if path[:1] == paths[0][:1]]
    # A branch that got as far as an item of the value allows its kind, too.
    best = max(same, key=lambda number: (problems[number]["type"] not in _WRONG_KIND, len(paths[number])))
    return {**problems[best], "loc": paths[best]}


def _without_branches(problem: Any, values: Any) -> KeyPath:
    """A problem's path without the names of branches of unions, which no key in `values` has."""
    path: list[str | int] = []
    for step in problem["loc"]:
        if isinstance(values, Mapping) and (step in values or problem["type"] == "missing"):
            values = values.get(step)
        elif isinstance(values, list | tuple) and isinstance(step, int) and step < len(values):
            values = values[step]
        else:
            continue
        path.append(step)
    return tuple(path)


def _first_of_each(problems: Sequence[Any], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first problem of each value.

    pydantic reports one problem per branch of a union and adds the branch's name to the path, although no key
    has that name.
    """
    found: dict[KeyPath, dict[str, Any]] = {}
    for problem in problems:
        path = _known_part(problem, values)
        found.setdefault(path, {**problem, "loc": path})
    return list(found.values())


def _known_part(problem: Any, values: Any) -> KeyPath:
    """The longest beginning of a problem's path that exists in `values`."""
    path = tuple(problem["loc"])
    for number, step in enumerate(path):
        if isinstance(values, Mapping) and (step in values or problem["type"] == "missing"):
            values = values.get(step)
        elif isinstance(values, list | tuple) and isinstance(step, int) and step < len(values):
            values = values[step]
        else:
            return path[:number]
    return path


def _sentence(spec: type[BaseModel], problem: Any, sources: Sources) -> str:
    path: tuple[str | int, ...] = tuple(problem["loc"])
    if problem["type"] == "extra_forbidden":
        place, near = sources.place(path), did_you_mean(str(path[-1]), _keys_at(spec, path[:-1]))
        key = "" if sources.subject(path) == place else f" {short(named(path))}"
        return f"{place}: unknown key{key}{near}"
    if not path:
        return f"{sources.place(path)}: {complaint('', problem)}"
    return complaint(sources.subject(path), problem)


def _keys_at(spec: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The names of the fields of `spec` at a key path; empty if there is no nested spec."""
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
