"""Which format the files at a path have, and what an SAE's name on the hub stands for."""

import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partial
from importlib import import_module
from pathlib import Path

from abench.errors import UserError, outside_cause, short
from abench.importing import formats
from abench.importing.near import near_names
from abench.importing.parsed import Format, Parsed

_MOST_SHOWN = 6
_DEPTH = 4
"""Levels of folders that are searched for SAEs when a folder itself is none."""


@dataclass(frozen=True)
class Located:
    """An SAE whose format is known."""

    name: str
    format: Format
    parse: Callable[[], Parsed]


@cache
def all_formats() -> tuple[Format, ...]:
    """Every format: those of the modules of `abench.importing.formats`."""
    names = [module.name for module in pkgutil.iter_modules(formats.__path__)]
    return tuple(import_module(f"{formats.__name__}.{name}").FORMAT for name in names)


def locate(source: str) -> Located:
    """The SAE that a path or a name on the hub stands for. Raises UserError if there is none."""
    path = Path(source).expanduser()
    try:
        there = path.exists()
    except OSError:
        there = False  # too long for a path
    if there:
        return at_path(path, name=_name(path.resolve()))
    if is_path(source) or source.endswith((".pt", ".safetensors")):
        raise UserError(f"there is no file or folder {short(source)}")
    return _on_the_hub(source)


def _name(path: Path) -> str:
    return path.name if path.is_dir() else f"{path.parent.name}_{path.stem}"


def is_path(source: str) -> bool:
    """Whether a name can only be a file or folder of this machine."""
    return source.startswith((".", "/", "~")) or source.endswith("/") or "\\" in source


def _on_the_hub(source: str) -> Located:
    from abench.importing.formats.saelens import FORMAT
    from abench.importing.hub import parse_release, releases, repository_folder

    first, _, rest = source.partition("/")
    if first in releases():
        return Located(source.replace("/", "_"), FORMAT, partial(parse_release, first, rest))
    if not rest:
        raise UserError(
            f"{short(source)} is neither a file or folder, nor owner/name on the hub, nor a release of "
            f"sae-lens{near_names(source, releases())}"
        )
    patterns = sorted({pattern for format in all_formats() for pattern in format.files})
    try:
        folder = repository_folder(source, patterns)
    except UserError as error:
        near = get_close_matches(first, releases(), n=1, cutoff=0.8)
        if not near:
            raise
        raise UserError(f"{error}; or did you mean the release '{near[0]}' of sae-lens?") from error
    return at_path(folder, name=source.replace("/", "_"))


def at_path(path: Path, *, name: str) -> Located:
    """The SAE in a folder or a file. Raises UserError if there is none, or more than one."""
    try:
        found = list(_found(path))
        if not found:
            raise UserError(_nothing(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {outside_cause(error)}") from error
    (format, weights), *others = found
    if others:
        raise UserError(
            f"{path} could be an SAE of {format.name} or of {others[0][0].name}: keep the files of only one "
            "of them in it"
        )
    return Located(name, format, partial(format.parse, weights))


def _found(path: Path) -> Iterator[tuple[Format, Path]]:
    for format in all_formats():
        weights = format.find(path)
        if weights is not None:
            yield format, weights


def _holds(folder: Path) -> bool:
    """Whether a folder has an SAE in it, or several."""
    try:
        return any(_found(folder))
    except UserError:
        return True


def _nothing(path: Path) -> str:
    known = "; ".join(f"{format.name}: {' and '.join(format.files)}" for format in all_formats())
    if path.is_file():
        return f"{path} is not the weights of an SAE in a known format ({known})"
    inside = [str(folder.relative_to(path)) for folder in _folders(path, _DEPTH) if _holds(folder)]
    if inside:
        more = f" and {len(inside) - _MOST_SHOWN} more" if len(inside) > _MOST_SHOWN else ""
        return (
            f"{path} holds several SAEs, so give the folder of one: {', '.join(inside[:_MOST_SHOWN])}{more}"
        )
    return f"{path} holds no SAE in a known format ({known})"


def _folders(path: Path, depth: int) -> Iterator[Path]:
    for folder in sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith(".")):
        yield folder
        if depth > 1:
            yield from _folders(folder, depth - 1)
