"""The page's own scripts and styles, which are files next to this module."""

from functools import cache
from importlib import resources

SCRIPTS = ("tables.js", "filters.js", "figures.js", "latents.js", "choices.js")
"""In the order in which they run; later ones use functions of earlier ones."""


@cache
def style() -> str:
    """The page's additional style sheet."""
    return _read("page.css")


@cache
def script(names: tuple[str, ...] = SCRIPTS) -> str:
    """The page's scripts as one, whose names are not visible outside of it."""
    body = "\n".join(map(_read, names))
    return f'(() => {{\n"use strict";\n{body}}})();\n'


def _read(name: str) -> str:
    return resources.files("abench.report.interactive").joinpath("files", name).read_text(encoding="utf-8")
