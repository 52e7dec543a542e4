"""Labels, ranges and configurations that commands accept, and what they say about missing cells."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command import Abench
from small_run import small_plan
from store_files import cell_file, sae_folder

from abench.cli.run import _explain_failures
from abench.results.records import Record
from abench.results.store import Store
from abench.runs.at_work import why_missing
from abench.runs.outcome import Outcome
from abench.runs.runner import run_plan


@pytest.fixture
def abench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Abench:
    return Abench(capsys, monkeypatch)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels") / "results"
    run_plan(small_plan(variants=("topk", "abstopk")), Store.open(folder, create=True))
    return folder


def test_labels_of_progress_are_accepted_by_show(abench: Abench, results: Path) -> None:
    for name in ("topk_k4_w64_s0", "topk_k4_w64_s0/core", "topk_k4_w64_s0/core-native"):
        result = abench("show", name, "--results", results)
        assert result.code == 0, result.err
        assert result.out.startswith("core ")
    latent = abench("show", "topk_k4_w64_s0", "--latent", "3", "--tokens", "512", "--results", results)
    assert "Latent 3 of" in latent.out
    assert "[positive] and {negative} values" in latent.out
    wrong = abench("show", "topk_k4_w64_s1", "--results", results)
    assert (wrong.code, "no cell in" in wrong.err) == (2, True)


def test_ranges_of_numbers(abench: Abench, tmp_path: Path) -> None:
    def seeds(text: str) -> list[int]:
        result = abench(
            "run", "--seeds", text, "--variants", "topk", "--k", "8", "--dry-run", "--no-calibration"
        )
        assert result.code == 0, result.err
        lines = [line.split() for line in result.out.splitlines() if line.startswith("tiny")]
        return [int(line[5]) for line in lines]

    assert seeds("0-4") == [0, 1, 2, 3, 4]
    assert seeds("7, 1-2") == [7, 1, 2]
    for wrong in ("4-0", "0-9999", "1-", "a-b"):
        assert abench("run", "--seeds", wrong, "--dry-run").code == 2


def test_explain_takes_a_configuration(abench: Abench, results: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: tiny\ntraining:\n  tokens: 4096\n", encoding="utf-8")
    result = abench("explain", file, "--results", results)
    rows = {line.split()[0]: line.split() for line in result.out.splitlines() if line.strip()}
    assert rows["training.tokens"][1:] == ["4096", f"{file}:3"]
    assert rows["training.learning_rate"][-1].startswith("configs/presets/tiny.yaml:")
    assert rows["layers"][-2:] == ["the", "model"]
    assert rows["seeds"][-1] == "default"
    (told,) = json.loads(abench("explain", "toy", "--json", "--results", tmp_path / "none").out)
    assert told["configuration"]["width"] == [6, 9]
    assert abench("explain", "nothing", "--results", results).code == 2


def test_failures_are_grouped_by_cause(capsys: pytest.CaptureFixture[str]) -> None:
    plan = small_plan(variants=("topk",))
    (cell,) = plan.cells
    base = Record(cell.key, "failed", cell.labels(), [], traceback="Traceback")
    reasons = ["It broke."] * 8 + ["The disk was full."]
    failed = [
        replace(base, reason=reason, labels={**cell.labels(), "seed": seed})
        for seed, reason in enumerate(reasons)
    ]
    assert _explain_failures(plan, Outcome(failed=failed)) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "9 cells failed for 2 reasons"
    assert lines[1].startswith("failed: topk k=4 seed=0, core (native); topk k=4 seed=1, core (native);")
    assert lines[1].endswith("and 3 more cells: It broke.")
    assert [line for line in lines if line.endswith(": The disk was full.")]
    assert sum("prints the traceback" in line for line in lines) == 2


def test_status_says_why_a_cell_is_missing(tmp_path: Path) -> None:
    plan, store = small_plan(variants=("topk",)), Store.open(tmp_path / "results", create=True)
    (cell,) = plan.cells
    assert why_missing(cell, store) == "its SAE is not trained yet"
    run_plan(plan, store)
    cell_file(store, cell).unlink()
    assert why_missing(cell, store) == "not scored yet"
    weights = sae_folder(store, cell.sae) / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    again = Store.open(tmp_path / "results", create=False)
    assert why_missing(cell, again) == "its SAE is damaged; the next run trains it again"
