"""A package of somebody else's with tasks in it: installed beside abench, found through its entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import SMALL

TASK = '''
"""Largest code an SAE gives."""

from typing import Any, ClassVar

from abench import Amount, Context, LanguageModel, Metric, Scores, Task, TokenRows, View, residual_codes

from .helpers import largest


class Largest(Task):
    """Largest code on some held-out text, without its sign."""

    name: ClassVar[str] = "largest"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("largest", None, headline=True),)
    views: ClassVar[tuple[View, ...]] = ("native", "split")

    rows: int = 4

    def prepare(self, lm: LanguageModel, ctx: Context) -> Any:
        tokens = TokenRows(lm, ctx.data, "held_out", ctx.context_size).batch(self.rows)
        ctx.used(Amount("rows", len(tokens), self.rows))
        return lm.residual(tokens, ctx.site).flatten(0, 1)

    def score(self, sae: Any, prepared: Any, lm: LanguageModel, ctx: Context) -> Scores:
        size = float(prepared.norm(dim=-1).mean())
        return {"largest": largest(residual_codes(sae, prepared)) / size}
'''
HELPERS = """
from torch import Tensor


def largest(codes: Tensor) -> float:
    return float(codes.abs().max())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages, as pip leaves it: modules and their metadata."""
    folder = tmp_path_factory.mktemp("site")
    package, metadata = folder / "their_tasks", folder / "their_tasks-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helpers.py").write_text(HELPERS)
    (package / "largest.py").write_text(TASK)
    for name in ("broken", "_shared"):
        (package / f"{name}.py").write_text("import a_package_that_is_not_installed\n")
    (package / "smallest").mkdir()
    (package / "smallest" / "__init__.py").write_text(
        TASK.replace("Largest", "Smallest").replace("largest", "smallest").replace(".helpers", ".inner")
    )
    (package / "smallest" / "inner.py").write_text(HELPERS.replace("largest", "smallest"))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tasks\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[abench.tasks]\ntheirs = their_tasks\n")
    return folder


def abench(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-P", "-m", "abench", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_its_tasks_are_listed_and_its_broken_module_is_a_row_with_the_error(site: Path) -> None:
    listed = {row["name"]: row for row in json.loads(abench(site, "list", "tasks", "--json").stdout)}
    assert listed["largest"]["source"] == "their_tasks.largest"
    assert listed["largest"]["summary"] == "Largest code on some held-out text, without its sign."
    assert listed["broken"]["version"] == "broken"
    assert "a_package_that_is_not_installed" in listed["broken"]["summary"]
    assert listed["core"]["source"] == "abench.tasks.core"
    assert {row["source"] for row in listed.values() if row["source"].startswith("their_tasks")} == {
        "their_tasks.broken",
        "their_tasks.largest",
        "their_tasks.smallest",
    }


def test_its_tasks_run_in_both_views_and_keep_the_rules(site: Path, tmp_path: Path) -> None:
    options = ["--variants", "abstopk,topk", "--k", "4", *SMALL, "--results", str(tmp_path)]
    run = abench(site, "run", "--tasks", "largest", *options)
    assert run.returncode == 0, run.stderr
    cells = [json.loads(file.read_text()) for file in tmp_path.glob("cells/*/*/*/*.json")]
    views = sorted((cell["labels"]["variant"], cell["labels"]["view"]) for cell in cells)
    assert views == [("abstopk", "native"), ("abstopk", "split"), ("topk", "native")]
    by_view = {
        c["labels"]["view"]: c["scores"]["largest"] for c in cells if c["labels"]["variant"] == "abstopk"
    }
    assert by_view["native"] == pytest.approx(by_view["split"])
    checked = abench(site, "list", "tasks", "--check", "--only", "largest,broken")
    assert "largest: ok (" in checked.stdout
    assert checked.returncode == 3
