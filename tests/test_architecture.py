"""The plan of the packages: imports go from higher layers to lower ones only."""

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

LAYERS = (
    ("errors", "version", "_torchvision"),
    ("foreign", "names", "settings", "sites", "streams"),
    ("sanitize", "statistics"),
    ("discovery", "progress", "yamlfile"),
    ("identity",),
    ("config",),
    ("storage",),
    ("amounts", "cost", "figures", "kept", "parts", "passes", "preconditions", "sae", "tables"),
    ("task",),
    ("declaration", "selection"),
    ("plugins",),
    ("tinyworld",),
    ("lm",),
    ("data",),
    ("kernels", "variants"),
    ("latents",),
    ("judges", "steering"),
    ("training",),
    ("results",),
    ("importing",),
    ("report",),
    ("exporting",),
    ("runs",),
    ("pricing", "executors", "reliability"),
    ("conformance",),
    ("cli",),
    ("__main__",),
)
"""The modules and packages directly in abench, lowest first. Each may import those of earlier lines."""

LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
PACKAGE = Path(str(resources.files("abench")))
FILES = [
    file
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.relative_to(PACKAGE).parts[0] not in {"tasks", "configs"}
]


def imported(source: str) -> Iterator[str]:
    """What is directly in abench, of all imports anywhere in a module; `abench` for the package itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            names = [f"abench.{a.name}" for a in node.names] if node.module == "abench" else [node.module]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "abench":
                yield rest.partition(".")[0] or "abench"


def test_every_module_and_package_has_a_layer() -> None:
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert there - {"__init__", "tasks", "configs"} == set(LAYER)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return  # lists the public names, which it imports when they are used
    upward = [
        name
        for name in imported(file.read_text(encoding="utf-8"))
        if name != own and not LAYER.get(name, len(LAYERS)) < LAYER[own]
    ]
    assert upward == []


OF_THE_FOLDER = {
    "cells",
    "checkpoints",
    "kept",
    "leases",
    "lock",
    "reports",
    "saes",
    "abench.json",
    "sae.json",
}
"""Names within a results folder."""
INNER = {"backend", "root"}
"""What only the store may use of itself: its backend, and the folder that only one kind of backend has."""
OWN = {"kept.py": "a cache in a folder of its own, which a user names"}
"""Modules outside of results and storage with an attribute of such a name, and why it is no store's."""
KINDS = {"abench.storage.folder", "abench.storage.memory"}
"""The modules of the kinds of stores."""


def kinds_named(source: str) -> set[str]:
    """The kinds of stores that a module imports, wherever it does."""
    nodes = list(ast.walk(ast.parse(source)))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            named |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return named & KINDS


def paths_built(source: str) -> Iterator[str]:
    """Where a module builds a path within a results folder, or reaches into a store."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            if isinstance(node.right, ast.Constant) and node.right.value in OF_THE_FOLDER:
                yield ast.unparse(node)
        elif isinstance(node, ast.Attribute) and node.attr in INNER:
            yield ast.unparse(node)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_the_store_knows_where_its_values_are(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0]
    if own not in {"results", "storage", *OWN}:
        assert list(paths_built(file.read_text(encoding="utf-8"))) == []
        assert kinds_named(file.read_text(encoding="utf-8")) == set()


def test_a_path_built_outside_of_the_store_is_seen() -> None:
    source = """
x = results / "cells"
shutil.rmtree(self._store.root)
store.backend.write(name, text)
file = results / "other"
"""
    assert sorted(paths_built(source)) == ["results / 'cells'", "self._store.root", "store.backend"]


def test_the_name_of_a_kind_of_store_is_seen_however_it_is_imported() -> None:
    for source in (
        "from abench.storage import folder",
        "def f():\n    import abench.storage.folder",
        "from abench.storage.folder import FolderBackend",
    ):
        assert kinds_named(source) == {"abench.storage.folder"}


def test_an_import_upward_is_seen_wherever_it_stands() -> None:
    source = """
import os, abench.cli.text
from abench import yamlfile
from abench.lm import models
if TYPE_CHECKING:
    from abench.runs.plan import Plan
def later():
    import abench
"""
    assert list(imported(source)) == ["cli", "yamlfile", "lm", "runs", "abench"]
