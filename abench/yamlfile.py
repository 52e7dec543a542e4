"""YAML as people expect it: no sexagesimal numbers, no booleans spelt `no`, no repeated keys.

Files and options are untrusted input. Their size, depth and types of values are bounded, so that a wrong file
is reported at once and never causes a long wait.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from abench.errors import UserError, cut, outside_cause, short
from abench.sanitize.secrets import notice

MOST_BYTES = 1 << 18
"""Size of the largest file that is read, 256 KiB; a typical configuration has one or two KiB."""
_DEEPEST = 30
"""Most levels of nested lists and mappings."""
_MOST_DIGITS = 100
"""Most digits of a whole number; Python itself rejects more than 4,300."""

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2.

    YAML 1.1 reads `1e-3` as a string, `no` as False and `10:30` as 630; it also has dates, and keys with a
    special meaning such as `<<` and `=`.
    """


_KEPT_TAGS = ("tag:yaml.org,2002:null",)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag in _KEPT_TAGS]
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


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Input that this reader rejects, and the line (from 1) where it is."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            what = short(key) if isinstance(key_node, yaml.ScalarNode) else f"a {key_node.id}"
            raise _Refused(line, f"a key must be text, not {what}; put it in quotes if it is meant as text")
        if key in seen:
            raise _Refused(line, f"{short(key)} is given twice (first on line {seen[key]})")
        seen[key] = line
    value: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return value


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    # PyYAML's own reads 010 as octal.
    digits = str(loader.construct_scalar(node)).replace("_", "")
    if len(digits) > _MOST_DIGITS:
        raise _Refused(node.start_mark.line + 1, f"a number of {len(digits):,} digits is too long")
    return int(digits)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass(frozen=True)
class Document:
    """A mapping that was read, and the line of each of its keys."""

    where: str
    """The file or option that it comes from."""
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Line (from 1) of each key and item; empty if the document is not a file."""
    says: KeyPath = ()
    """The key that `where` itself names, e.g. that of `--set training.tokens`; empty for a file."""

    def place(self, path: KeyPath) -> str | None:
        """`file:line` of the key or item at `path`; None if the document does not contain it."""
        value: Any = self.values
        for step in path:
            if isinstance(value, Mapping):
                known = step in value
            else:
                known = isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
            if not known:
                return None
            value = value[step]
        line = self.lines.get(path)
        return f"{self.where}:{line}" if line else self.where


def parse(text: str, where: str) -> Any:
    """The value of one YAML document; UserError naming `where` and the line if it is not YAML."""
    return _read(text, where)[0]


def parse_mapping(text: str, where: str) -> Document:
    """The mapping in a text, with the lines of its keys; UserError if the text is anything else."""
    value, lines = _read(text, where)
    if not isinstance(value, dict):
        raise UserError(f"{where} must hold a mapping of keys to values, not {_kind(value)}")
    return Document(where, value, lines)


def read_mapping(path: Path) -> Document:
    """The mapping in a YAML file; UserError if the file is missing, unreadable or holds anything else.

    Text in it that looks like a secret is hidden in all later output.
    """
    text = read_text(path)
    notice(text)
    return parse_mapping(text, str(path))


def read_text(path: Path) -> str:
    """The text of a regular UTF-8 file of at most MOST_BYTES, with or without a byte-order mark.

    Raises UserError for anything else: a folder, a pipe or device, which might never end, or model weights.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a process that writes to it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            kind = os.fstat(handle).st_mode
            content = file.read(MOST_BYTES + 1) if stat.S_ISREG(kind) else None
    except IsADirectoryError as error:
        raise UserError(f"{path} cannot be read: it is a folder") from error
    except (OSError, ValueError) as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or outside_cause(error) or str(error)
        raise UserError(f"{path} cannot be read: {cause}") from error
    if content is None:
        raise UserError(f"{path} cannot be read: it is not a regular file")
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES >> 10} KiB, too large for a configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line} cannot be read: it is not UTF-8 text") from error


def _read(text: str, where: str) -> tuple[Any, dict[KeyPath, int]]:
    """The value, and the line of each key and item in it."""
    loader: _Loader | None = None
    try:
        _check_events(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        return loader.construct_document(node), dict(_lines(node, ()))
    except yaml.YAMLError as error:
        raise UserError(f"{_place(error, text, where)} is not valid YAML: {_problem(error)}") from error
    except _Refused as error:
        raise UserError(f"{where}:{error.line}: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _check_events(text: str) -> None:
    """Reject what could take too long or too much memory: deep nesting, and aliases that multiply content."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise _Refused(line, f"more than {_DEEPEST} levels of nested lists and mappings")
        if getattr(event, "anchor", None) is not None:
            raise _Refused(line, "anchors (&name) and aliases (*name) are not supported; repeat the value")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _Refused(line, f"tags such as {cut(str(tag), 40)} are not supported; use quotes for text")


def _lines(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*path, number), item.start_mark.line + 1
            yield from _lines(item, (*path, number))


def _place(error: yaml.YAMLError, text: str, where: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"{where}:{mark.line + 1}"
    position = getattr(error, "position", None)  # of a character that YAML does not allow
    return where if position is None else f"{where}:{text.count(chr(10), 0, position) + 1}"


def _problem(error: yaml.YAMLError) -> str:
    return cut(getattr(error, "problem", None) or str(error).splitlines()[0], 200)


def _kind(value: object) -> str:
    return {"NoneType": "nothing", "str": "text", "list": "a list"}.get(type(value).__name__, "a number")
