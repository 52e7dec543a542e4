"""`abench run` from end to end on the bundled model: caching, resuming, failing, two at once."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from command import SMALL, Abench, start

from abench.variants import registry
from abench.variants.relu import ReLU

TWO = ("--variants", "abstopk,batchtopk", "--k", "4", *SMALL)


def cells(results: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in results.glob("cells/*/*/*/*.json")}


def data(results: Path) -> str:
    return (results / "reports" / "default" / "data.csv").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of a run that was never disturbed."""
    results = tmp_path_factory.mktemp("finished") / "results"
    process = start("run", *TWO, "--results", results)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return results


def test_the_report_is_whole(finished: Path) -> None:
    report = finished / "reports" / "default"
    names = {file.name for file in report.iterdir()}
    expected = {
        "data.csv",
        "table.md",
        "table.csv",
        "table.tex",
        "reconstruction.png",
        "reconstruction.pdf",
        "index.html",
    }
    assert expected <= names
    frame = pd.read_csv(report / "data.csv")
    assert list(frame.columns) == [
        "model",
        "site",
        "variant",
        "k",
        "width",
        "seed",
        "task",
        "task_version",
        "view",
        "metric",
        "value",
        "higher_is_better",
        "status",
        "key",
        "valid",
        "invalid_because",
        "run",
        "tokens",
        "learning_rate",
        "options",
    ]
    assert set(frame.status) == {"done"}
    assert frame.value.notna().all()
    assert len(frame) == 2 * 14
    l0 = frame[frame.metric == "l0"].set_index("variant").value
    assert l0["abstopk"] == 4
    assert l0["batchtopk"] == pytest.approx(4, rel=0.1)


def test_the_saved_sae_opens_in_sae_lens_and_reconstructs_the_same(finished: Path) -> None:
    import torch
    from sae_lens import SAE

    import abench
    from abench.tinyworld import MODEL_DIR

    lm = abench.LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    data_spec = abench.Context.__dataclass_fields__["data"]
    assert data_spec
    from abench.config import DataSpec

    tokens = abench.TokenRows(lm, DataSpec(source="tinyworld", dataset=None), "held_out", 64).batch(40)
    x = lm.residual(tokens, "blocks.2.hook_resid_post")[abench.ordinary(tokens, lm)].clone()
    for folder in finished.glob("saes/*/*/*"):
        sae = SAE.load_from_disk(folder)
        with torch.no_grad():
            error = (x - sae.decode(sae.encode(x))).double().square().sum(-1)
        nmse = float((error / x.double().square().sum(-1)).mean())
        (cell,) = finished.glob(f"cells/*/*/{folder.name.rpartition('-')[0]}/core-*.json")
        assert nmse == pytest.approx(json.loads(cell.read_text())["scores"]["nmse"], rel=1e-5)
        torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(200))
        assert sae.cfg.metadata.hook_name == "blocks.2.hook_resid_post"


def test_the_training_curve_is_kept(finished: Path) -> None:
    for file in finished.glob("saes/*/*/*/train.csv"):
        curve = pd.read_csv(file)
        assert list(curve.columns) == ["step", "tokens", "mse", "l0", "dead", "seconds"]
        assert curve.step.iloc[-1] == 40960 // 512
        assert curve.mse.iloc[-1] < curve.mse.iloc[0]


def test_nothing_unfinished_is_left(finished: Path) -> None:
    left = [path for path in finished.rglob("*") if path.is_file()]
    assert not [path for path in left if {"checkpoints", "leases"} & set(path.parts)]
    assert not [path for path in left if path.name.startswith(".")]


def test_a_second_run_computes_nothing(abench: Abench, finished: Path) -> None:
    before = cells(finished)
    result = abench("run", *TWO, "--results", finished)
    assert result.code == 0
    assert "0 cells computed, 2 from the results folder" in result.out
    assert "training" not in result.err
    assert cells(finished) == before


def test_status_show_explain_report(abench: Abench, finished: Path) -> None:
    status = abench("status", *TWO, "--results", finished, "--json")
    assert status.code == 0
    rows = json.loads(status.out)
    assert [row["status"] for row in rows] == ["done", "done"]
    assert abench("status", *TWO, "--seeds", "0,1", "--results", finished).code == 4
    key = rows[0]["key"]
    shown = abench("show", key[:8], "--results", finished)
    assert "nmse" in shown.out
    assert json.loads(abench("show", key, "--results", finished, "--json").out)["key"] == key
    explained = json.loads(abench("explain", key, rows[1]["key"], "--results", finished, "--json").out)
    assert "sae.variant.name" in {path for path, _, _ in explained["differences"][rows[1]["key"]]}
    before = data(finished)
    table = abench("report", *TWO, "--results", finished, "--metrics", "mse,kl")
    assert "MSE" in table.out
    assert "expl. var." not in table.out
    assert abench("report", *TWO, "--results", finished).code == 0
    assert data(finished) == before
    assert abench("show", "ffffffffffff", "--results", finished).code == 2


@pytest.mark.parametrize("damage", ["removed", "cut in half"])
def test_one_lost_cell_is_computed_alone_and_is_the_same(abench: Abench, finished: Path, damage: str) -> None:
    before, table = cells(finished), data(finished)
    victim = sorted(before)[0]
    if damage == "removed":
        victim.unlink()
    else:
        victim.write_bytes(before[victim][: len(before[victim]) // 2])
    result = abench("run", *TWO, "--results", finished)
    assert result.code == 0
    assert "1 cell computed, 1 from the results folder" in result.out
    assert ("is damaged" in result.err) == (damage == "cut in half")
    assert data(finished) == table
    after = cells(finished)
    assert {file for file in before if before[file] != after[file]} <= {victim}


def test_damaged_weights_are_trained_again(abench: Abench, finished: Path) -> None:
    table = data(finished)
    (weights,) = finished.glob("saes/*/*/batchtopk*/sae_weights.safetensors")
    (cell,) = finished.glob("cells/*/*/batchtopk*/*.json")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    cell.unlink()
    result = abench("run", *TWO, "--results", finished)
    assert result.code == 0
    assert "is damaged (its checksum does not match its content); the SAE is trained again" in result.err
    (weights,) = finished.glob("saes/*/*/batchtopk*/sae_weights.safetensors")
    assert weights.read_bytes() == whole
    assert data(finished) == table


@pytest.mark.slow
def test_a_run_killed_three_times_ends_with_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    command = ("run", *TWO, "--results", results, "--checkpoint-every", "0")
    deaths = []
    # Die at the first checkpoint, then at a later one, then when the first SAE has been saved.
    for sign in ("checkpoints/*/state.json", "checkpoints/*/state.json", "saes/*/*/*/sae.json"):
        process = start(*command)
        seen: set[float] = set()
        while process.poll() is None:
            times = _times(results, sign)
            if len(seen | times) >= (3 if deaths == [True] else 1) and times:
                break
            seen |= times
            time.sleep(0.01)
        deaths.append(process.poll() is None)
        process.kill()
        process.communicate()
    assert deaths == [True, True, True]
    process = start(*command)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert data(results) == data(finished)
    for whole in finished.glob("saes/*/*/*/sae_weights.safetensors"):
        assert (results / whole.relative_to(finished)).read_bytes() == whole.read_bytes()


def _times(results: Path, pattern: str) -> set[int]:
    """When the files were written; those still under a temporary name, which may vanish, do not count."""
    found = set()
    for file in results.glob(pattern):
        if not file.parent.name.startswith("."):
            with suppress(FileNotFoundError):
                found.add(file.stat().st_mtime_ns)
    return found


@pytest.mark.slow
def test_two_processes_on_one_folder_compute_each_cell_once(finished: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    processes = [start("run", *TWO, "--results", results) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    computed = sum(
        int(line.split()[0]) for output in outputs for line in output.splitlines() if "computed" in line
    )
    trained = sum("training" in output and "/80" in output for output in outputs)
    assert trained == 1
    assert computed >= 2
    assert data(results) == data(finished)


class Heavy(ReLU):
    """Its penalty is so heavy that the loss overflows; options are kept from such values."""

    name: ClassVar[str] = "heavy"
    starting_coefficient: ClassVar[float] = 1e38


def test_a_diverging_sae_is_marked_and_the_others_go_on(
    abench: Abench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._variants, "heavy", Heavy)
    options = ["--variants", "heavy,topk", "--k", "4", *SMALL]
    result = abench("run", *options, "--results", tmp_path)
    assert result.code == 3
    assert "heavy" in result.err
    assert "the training loss became" in result.err
    frame = pd.read_csv(tmp_path / "reports" / "default" / "data.csv")
    assert set(frame[frame.variant == "heavy"].status) == {"failed"}
    assert frame[frame.variant == "heavy"].value.isna().all()
    assert set(frame[frame.variant == "topk"].status) == {"done"}
    assert abench("status", *options, "--results", tmp_path).code == 3


BROKEN_TASK = '''
from typing import Any, ClassVar
from abench import Metric, Task


class Moody(Task):
    """Fails for signed SAEs and skips nothing."""

    name: ClassVar[str] = "moody"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("mood", True, headline=True),)

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Any) -> dict[str, float]:
        if sae.cfg.architecture() == "abstopk":
            raise RuntimeError("no mood for <signs>")
        return {"mood": 1.0}


class Shy(Moody):
    """Skips every model."""

    name: ClassVar[str] = "shy"

    def skip(self, lm: Any, ctx: Any) -> str | None:
        return "the model is too small to be talked to"


class Liar(Moody):
    """Gives a number that is none."""

    name: ClassVar[str] = "liar"

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Any) -> dict[str, float]:
        return {"mood": float("nan")}
'''


def test_failing_skipping_and_broken_tasks(abench: Abench, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "moody.py").write_text(BROKEN_TASK)
    (tasks / "syntax.py").write_text("def broken(:\n")
    listing = json.loads(abench("list", "tasks", "--tasks-dir", tasks, "--json").out)
    versions = {row["name"]: row["version"] for row in listing}
    assert versions["core"] == versions["moody"] == versions["shy"] == versions["liar"] == "1"
    assert versions["syntax"] == "broken"
    options = [*TWO, "--tasks-dir", tasks, "--results", tmp_path / "results"]
    assert "cannot be imported" in abench("run", *options, "--tasks", "syntax").err
    result = abench("run", *options, "--tasks", "moody,shy,liar")
    assert result.code == 3
    assert "no mood for <signs>" in result.err
    assert "scores that are not finite: mood = nan" in result.err
    frame = pd.read_csv(tmp_path / "results" / "reports" / "default" / "data.csv").set_index(
        ["task", "variant"]
    )
    assert frame.status.to_dict() == {
        ("moody", "abstopk"): "failed",
        ("moody", "batchtopk"): "done",
        ("shy", "abstopk"): "skipped",
        ("shy", "batchtopk"): "skipped",
        ("liar", "abstopk"): "failed",
        ("liar", "batchtopk"): "failed",
    }
    key = frame.loc[("moody", "abstopk"), "key"]
    assert "Traceback" in abench("show", key, "--results", tmp_path / "results").out
    page = (tmp_path / "results" / "reports" / "default" / "index.html").read_text()
    assert "no mood for <signs>" not in page


@pytest.mark.slow
def test_a_new_task_runs_as_it_is_and_passes_its_test(abench: Abench, tmp_path: Path) -> None:
    import subprocess
    import sys

    assert abench("new", "task", "my_measure", "--dir", tmp_path).code == 0
    assert abench("new", "task", "my_measure", "--dir", tmp_path).code == 2
    assert abench("new", "task", "Not-A-Name", "--dir", tmp_path).code == 2
    run = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            str(tmp_path),
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
