"""Tables of the fields of frozen descriptions: name, values, default and meaning, all read from the class."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from abench.config.spec import Spec, kinds_in
from generators.markdown import table

_WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "any value"}

_OR_NULL = ", or null"


def field_table(cls: type[BaseModel], *, heading: str = "key") -> str:
    """A Markdown table with a row for each field of a class, in declared order; empty if it has none."""
    meanings = field_docstrings(cls)
    rows = [
        (f"`{name}`", _values(field), _default(field), meanings.get(name, ""))
        for name, field in cls.model_fields.items()
    ]
    return table((heading, "values", "default", "meaning"), rows)


def field_docstrings(cls: type) -> dict[str, str]:
    """The strings below the fields of a class and of its bases, by field, each in one line.

    A field without one whose value is a description of its own has the first line of that class.
    """
    found = {
        name: (inspect.getdoc(kind) or "").split("\n", 1)[0]
        for name, field in getattr(cls, "model_fields", {}).items()
        for kind in kinds_in(field.annotation)
        if isinstance(kind, type) and issubclass(kind, Spec)
    }
    for each in reversed(cls.__mro__):
        if each.__module__.split(".")[0] not in ("builtins", "abc", "pydantic"):
            found |= dict(_docstrings(each))
    return found


def _docstrings(cls: type) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield field.target.id, " ".join(text.split())


def _values(field: FieldInfo) -> str:
    values, null = (
        described(field.annotation).removesuffix(_OR_NULL),
        type(None) in get_args(field.annotation),
    )
    return values + _bounds(field.metadata) + (_OR_NULL if null else "")


def described(annotation: Any) -> str:
    """The values of a type in words, such as `list of whole numbers, or null`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is Annotated:
        return described(inner[0]) + _bounds(_flat(inner[1:]))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return ", or ".join("null" if each is NoneType else described(each) for each in inner)
    if origin is tuple:
        kinds = [each for each in inner if each is not Ellipsis]
        length = "" if Ellipsis in inner else f" of {len(kinds)}"
        return f"list{length}: {described(kinds[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping to {described(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return f"`{getattr(annotation, '__name__', annotation)}`"


def _flat(metadata: Any) -> Iterator[Any]:
    """The constraints in an annotation, including those within pydantic's `Field(...)`."""
    for each in metadata:
        yield from each.metadata if isinstance(each, FieldInfo) else (each,)


def _bounds(metadata: Any) -> str:
    """The bounds of a number, such as ` ≥ 1, < 4,294,967,296`; empty if there are none."""
    signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    found = [
        f"{signs[type(each)][0]} {_number(getattr(each, signs[type(each)][1]))}"
        for each in _flat(metadata)
        if type(each) in signs
    ]
    return " " + ", ".join(found) if found else ""


def _number(value: Any) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{value}`" if value != "" else "empty"
