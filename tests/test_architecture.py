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
    ("amounts", "cost", "figures", "kept", "parts", "passes", "preconditions", "sae"),
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
REACHING_IN = {f"{of}.{part}" for of in ("store", "self.store", "self._store") for part in ("leases", "root")}
"""Parts of a store in a folder that another kind of store would not have."""


def paths_built(source: str) -> Iterator[str]:
    """Where a module builds a path within a results folder, or reaches into a store."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            if isinstance(node.right, ast.Constant) and node.right.value in OF_THE_FOLDER:
                yield ast.unparse(node)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in REACHING_IN:
            yield ast.unparse(node)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_the_store_knows_the_paths_of_its_folder(file: Path) -> None:
    if file.relative_to(PACKAGE).parts[0] not in {"results", "storage"}:
        assert list(paths_built(file.read_text(encoding="utf-8"))) == []


def test_a_path_built_outside_of_the_store_is_seen() -> None:
    source = """
x = results / "cells"
shutil.rmtree(self._store.root)
file = results / "other"
"""
    assert sorted(paths_built(source)) == ["results / 'cells'", "self._store.root"]


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
