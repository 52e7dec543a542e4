"""What is shipped: every package is listed, pins lie within the ranges, weights are safetensors only."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module, resources
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from abench.results.store import CURVE_FILE, Record, SAERecord, Store
from abench.runs.planner import RunRequest, plan_run
from abench.runs.provenance import package_versions, provenance
from abench.storage.sealed import manifest_of

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PUBLIC = (
    "abench",
    "abench.judges",
    "abench.kept",
    "abench.report",
    "abench.tinyworld",
    "abench.variants",
)
"""The modules whose `__all__` is the public API."""
_TASKS = Path(str(resources.files("abench.tasks")))
TASKS = sorted(str(file.relative_to(_TASKS)) for file in _TASKS.rglob("*.py"))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_folder_with_code_is_a_listed_package() -> None:
    folders = [
        Path("abench" if top == "abench" else f"abench/{top}") / p.parent.relative_to(ROOT / top)
        for top in ("abench", "tasks", "configs")
        for p in (ROOT / top).rglob("__init__.py")
    ]
    names = {".".join(folder.parts) for folder in folders}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(names)


def test_the_versions_of_all_requirements_are_recorded() -> None:
    names = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert set(package_versions()) == names | {"python", "abench"}
    assert all(package_versions().values())


@pytest.mark.parametrize("requirement", PROJECT["project"]["dependencies"])
def test_the_tested_version_lies_in_the_range_that_users_get(requirement: str) -> None:
    wanted = Requirement(requirement)
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {
        pin.name.lower().replace("_", "-"): pin
        for pin in map(Requirement, (x for x in lines if not x.startswith("#")))
    }
    pinned = str(pins[wanted.name.lower()].specifier).removeprefix("==")
    assert wanted.specifier.contains(pinned)


def test_every_dependency_has_an_upper_bound_or_a_reason() -> None:
    free = {"pillow", "tokenizers", "zstandard"}  # stable interfaces, used by others rather than by abench
    for line in PROJECT["project"]["dependencies"]:
        requirement = Requirement(line)
        assert requirement.name in free or "<" in str(requirement.specifier), line


def test_weights_are_safetensors_and_the_model_is_small() -> None:
    from abench.tinyworld import MODEL_DIR

    files = list(MODEL_DIR.iterdir())
    assert not [f for f in files if f.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}]
    assert sum(f.stat().st_size for f in files) < 10_000_000


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_there(module: str) -> None:
    public = import_module(module)
    for name in public.__all__:
        assert getattr(public, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = public.nothing


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_modules_are_cheap_to_import(module: str) -> None:
    code = (
        f"import sys, {module}; print({{'torch', 'sae_lens', 'transformers', 'openai'}} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def imports(source: str) -> Iterator[tuple[str, str | None]]:
    """Absolute imports anywhere in a module: the module, and the name taken from it (None: itself)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((str(node.module), alias.name) for alias in node.names)


def not_public(source: str) -> list[str]:
    """What a module imports beyond the standard library, abench's dependencies and its public names."""
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    installed = packages_distributions()
    found = []
    for module, name in imports(source):
        top = module.split(".")[0]
        if top == "abench":
            known = module in PUBLIC and (name is None or name in import_module(module).__all__)
        else:
            known = top in sys.stdlib_module_names or any(
                canonicalize_name(distribution) in declared for distribution in installed.get(top, ())
            )
        if not known:
            found.append(module if name is None else f"{module}.{name}")
    return found


@pytest.mark.parametrize("name", TASKS)
def test_tasks_are_written_against_the_public_names_alone(name: str) -> None:
    source = (_TASKS / name).read_text(encoding="utf-8")
    assert not_public(source) == []


def test_the_template_of_a_task_uses_public_names_alone() -> None:
    source = resources.files("abench.cli").joinpath("templates", "task.py.txt").read_text(encoding="utf-8")
    assert not_public(source) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_documentation_imports_is_public(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        assert not_public(block) == []


def test_what_is_not_public_is_seen_wherever_it_is_imported() -> None:
    source = """
import os
import abench.results.store
from torch import Tensor
from abench import Task, runs
from abench.judges.oracle import TinyWorldOracle
from tasks import core
def later():
    from abench.lm.hub import offline_reason
    import huggingface_hub
"""
    assert not_public(source) == [
        "abench.results.store",
        "abench.runs",
        "abench.judges.oracle.TinyWorldOracle",
        "tasks.core",
        "abench.lm.hub.offline_reason",
        "huggingface_hub",
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The options of a run whose results, made up, are all in its folder."""
    folder = tmp_path_factory.mktemp("finished") / "results"
    request = RunRequest(options={"variants": ("topk",), "k": (8,)})
    plan, store = plan_run(request, fetch=False, say=print), Store.open(folder, create=True)
    where = provenance("cpu", 1.0)
    for cell in plan.cells:
        metrics = [asdict(metric) for metric in cell.task.metrics]
        scores = {metric.name: 0.5 for metric in cell.task.metrics}
        more = {"sae_key": cell.sae.key, "spec": cell.spec(), "provenance": where}
        store.put(cell, Record(cell.key, "done", cell.labels(), metrics, scores, **more))
    for sae in plan.saes:
        draft = store.draft_folder(sae)
        (draft / CURVE_FILE).write_text("step,mse\n0,1.0\n1,0.5\n", encoding="utf-8")
        record = SAERecord(
            sae.key, "done", sae.labels(), sae.spec(), files=manifest_of(draft), provenance=where
        )
        store.put_sae(sae, record, draft)
    return ("--variants", "topk", "--k", "8", "--results", str(folder))


@pytest.mark.parametrize("command", ["list tasks", "list variants", "status", "report", "run"])
def test_what_computes_nothing_imports_nothing_to_compute_with(
    command: str, finished: tuple[str, ...]
) -> None:
    """Not even numpy, unless there are tables to write."""
    tables = {"pandas", "numpy"} if command in ("report", "run") else set()
    heavy = {"torch", "sae_lens", "transformers", "datasets", "sklearn", "scipy", "pandas", "numpy"} - tables
    options = () if command.startswith("list") else finished
    code = f"""
import sys
from abench.cli import main
try:
    main()
finally:
    print(sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code, *command.split(), *options], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.splitlines()[-1] == "[]"


def test_the_files_that_contributors_are_pointed_to_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:abench|configs|docs|tasks|tests)/[\w./-]*)`", text)
    assert len(named) > 12
    assert [path for path in named if not (ROOT / path).exists()] == []
