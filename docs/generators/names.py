"""The reference of the public names, from their docstrings."""

import inspect
from importlib import import_module

from generators.markdown import table

MODULES = {
    "abench": "Functions and classes for programs, notebooks and tasks.",
    "abench.judges": "Judges of replies and of latents.",
    "abench.kept": "The cache behind `Context.kept`.",
    "abench.report": "Tables and data of reports.",
    "abench.tinyworld": "The bundled world of texts.",
    "abench.variants": "Variants and their proximal operators.",
}
"""The modules whose `__all__` is public."""


def pages() -> dict[str, str]:
    """A page for each public module with all of its names, and one that lists them."""
    found = {_path(module): _page(module) for module in MODULES}
    modules = table(("module", ""), [(f"[`{name}`]({name}.md)", text) for name, text in MODULES.items()])
    intro = "# Public names\n\nAnything else in abench may change without notice."
    found["reference/api/index.md"] = f"{intro}\n\n{modules}\n"
    return found


def _path(module: str) -> str:
    return f"reference/api/{module}.md"


def _page(module: str) -> str:
    """mkdocstrings replaces the lines that begin with `:::` by the documentation of the name."""
    public = import_module(module)
    names = sorted(public.__all__, key=str.lower)
    parts = [f"# {module}", inspect.getdoc(public) or "", *(f"::: {module}.{name}" for name in names)]
    return "\n\n".join(parts) + "\n"
