"""YAML as people expect it: no sexagesimal numbers, no booleans spelt `no`, no key given twice."""

import re
from pathlib import Path
from typing import Any

import yaml

from abench.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2.

    YAML 1.1 reads `1e-3` as a string, `no` as False and `10:30` as 630.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":bool", ":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.I), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|nan)$", re.I),
    list("-+.0123456789"),
)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise UserError(f"line {line}: '{key}' is given twice (first on line {seen[key]})")
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    # PyYAML's own reads 010 as octal.
    return int(str(loader.construct_scalar(node)).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def parse(text: str, where: str) -> Any:
    """The value of one YAML document; UserError naming `where` and the line if it is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}{line} is not valid YAML: {problem}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds; UserError if the file is missing, unreadable or something else."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    value = parse(text, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a mapping of keys to values, not {_kind(value)}")
    return value


def line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """The line (from 1) on which the key or item at `path` stands; None if it is not in the text."""
    node = yaml.compose(text, Loader=_Loader)
    line: int | None = None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
            if not found:
                return line
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _kind(value: object) -> str:
    return {"NoneType": "nothing", "str": "a text", "list": "a list"}.get(type(value).__name__, "a number")
