"""The manuals of the installed Python packages: text that every machine with abench has, without a network.

A document is a package's description or the docstrings of one of its modules, up to 20,000 characters. Only
the packages that abench requires, directly or indirectly, are read, so equal installations give equal text.
"""

import ast
import email
import hashlib
import warnings
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from abench.errors import UserError, outside_cause

_SHORTEST_FILE = 1000
"""Bytes. Shorter modules have hardly any documentation; many are empty."""
_LONGEST_DOCUMENT = 20_000
"""Characters. The rest of a longer document is left out: some have hundreds of thousands, and would fill more
than one of the buffers in which activations are shuffled."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class _Source:
    """A file that holds a document, or a package's description (no file)."""

    package: str
    file: str
    digest: str
    """The file's sha256 as the package's list of files states it (URL-safe base64 without padding)."""

    @property
    def order(self) -> bytes:
        return hashlib.sha256(f"{self.package} {self.file}".encode()).digest()


def documents(start: int = 0) -> Iterator[str]:
    """The documents from number `start` on, in a fixed order that mixes the packages; some are empty.

    Raises UserError for a file that is missing or that differs from the one that was installed.
    """
    return (_document(source)[:_LONGEST_DOCUMENT] for source in _sources()[start:])


def identity() -> str:
    """The packages with their versions and a hash of their files' hashes: equal for equal documents."""
    lines = [f"{_LONGEST_DOCUMENT} characters", *(f"{s.package} {s.file} {s.digest}" for s in _sources())]
    digest = hashlib.sha256("\n".join(lines).encode())
    versions = ", ".join(f"{name} {package.version}" for name, package in _packages().items())
    return f"{versions}; {len(_sources()):,} documents, sha256 {digest.hexdigest()}"


def difference(recorded: str, present: str) -> str:
    """How two identities differ, as a clause about the recorded one."""
    before, after = (dict(_versions(each)) for each in (recorded, present))
    for name in sorted(before | after):
        old, new = before.get(name, "absent"), after.get(name, "absent")
        if old != new:
            return f"{name} was {old} then and is {new} now"
    return "files of the same versions differ"


def _versions(identity: str) -> Iterator[tuple[str, str]]:
    for each in identity.partition("; ")[0].split(", "):
        name, _, version = each.partition(" ")
        yield name, version


@lru_cache(maxsize=1)
def _packages() -> dict[str, Distribution]:
    """The installed packages that abench requires, by name; abench itself is not among them."""
    found: dict[str, Distribution] = {}
    extras_of: dict[str, frozenset[str]] = {}
    ahead = [("abench", frozenset[str]())]
    while ahead:
        name, extras = ahead.pop()
        if name in extras_of and extras <= extras_of[name]:
            continue
        extras_of[name] = extras_of.get(name, frozenset()) | extras
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # required under other conditions, e.g. by another platform
        ahead += _required(found[name], extras_of[name])
    found.pop("abench", None)
    return dict(sorted(found.items()))


def _required(package: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in package.requires or ():
        try:
            needed = Requirement(line)
        except InvalidRequirement:
            continue  # pip could not have followed it either
        if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *sorted(extras))):
            yield canonicalize_name(needed.name), frozenset(needed.extras)


@lru_cache(maxsize=1)
def _sources() -> tuple[_Source, ...]:
    """All documents' sources, in the order of a hash of their names, without copies of the same file."""
    found = [source for name, package in _packages().items() for source in _in_package(name, package)]
    first = {source.digest: source for source in reversed(found)}
    return tuple(sorted(first.values(), key=lambda source: source.order))


def _in_package(name: str, package: Distribution) -> Iterator[_Source]:
    if description := _description(package):
        yield _Source(name, "", _base64(description.encode()))
    for file in package.files or ():
        text = file.suffix in (".py", ".md", ".rst")
        if (
            text
            and (file.size or 0) >= _SHORTEST_FILE
            and file.hash is not None
            and file.hash.mode == "sha256"
        ):
            yield _Source(name, file.as_posix(), file.hash.value)


def _document(source: _Source) -> str:
    package = _packages()[source.package]
    if not source.file:
        return _description(package)
    path = Path(str(package.locate_file(source.file)))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the text of data.source manuals cannot be read: {path}: {outside_cause(error)}"
        ) from error
    if _base64(content) != source.digest:
        raise UserError(
            f"{path} differs from the file that was installed, so data.source manuals is not the text "
            f"that its key states: install {source.package} {package.version} again"
        )
    return _docstrings(content, source.file) if path.suffix == ".py" else content.decode("utf-8", "replace")


def _docstrings(code: bytes, file: str) -> str:
    """The docstrings of a module, each under the name of what it describes; empty if it is not Python 3."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    with warnings.catch_warnings():
        # Unusual escapes in somebody else's strings are no concern of the user.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ""
    return "\n\n".join(_found(tree, module))


def _found(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, _DOCUMENTED):
        text = ast.get_docstring(node)
        if text:
            yield f"{name}\n\n{text}"
        for child in node.body:
            if isinstance(child, _DOCUMENTED) and not isinstance(child, ast.Module):
                yield from _found(child, f"{name}.{child.name}")


def _description(package: Distribution) -> str:
    """A package's description, as on its page in a package index; empty if it has none."""
    written = package.read_text("METADATA") or ""
    # It follows the headers; in older files it is one of them.
    message = email.message_from_string(written)
    text = message.get_payload() or message.get("Description") or ""
    return text if isinstance(text, str) else ""


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
