"""Exports, read by the tools that they are for: sae-bench's classes and plots, sae-lens, the hub's client."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from command import Abench
from hub.client import ask, client_environment
from hub.repository import Commit, Repository
from hub.server import Hub
from pydantic import TypeAdapter
from sae_bench.evals.absorption.eval_output import AbsorptionEvalOutput
from sae_bench.evals.core.eval_output import CoreEvalOutput
from sae_bench.evals.ravel.eval_output import RAVELEvalOutput
from sae_bench.evals.scr_and_tpp.eval_output import ScrEvalOutput, TppEvalOutput
from sae_bench.evals.sparse_probing.eval_output import SparseProbingEvalOutput
from sae_bench.evals.unlearning.eval_output import UnlearningEvalOutput
from sae_lens import SAE
from small_run import small_plan
from store_files import cell_file, sae_folder

from abench.exporting.saebench_tasks import TASKS, configuration
from abench.exporting.saelens import is_plain
from abench.plugins import find_tasks, get_task
from abench.report import read_tidy
from abench.results.store import Store
from abench.runs.plan import Plan
from abench.runs.report_of_plan import write_plan_report
from abench.runs.runner import run_plan
from abench.task import Task
from abench.variants import load_sae

OUTPUTS = {
    "core": CoreEvalOutput,
    "sparse_probing": SparseProbingEvalOutput,
    "scr": ScrEvalOutput,
    "tpp": TppEvalOutput,
    "absorption": AbsorptionEvalOutput,
    "ravel": RAVELEvalOutput,
    "unlearning": UnlearningEvalOutput,
}


def plan() -> Plan:
    return small_plan(
        variants=("topk", "abstopk", "multistep"),
        tasks=("core", "sparse_probing"),
        evaluation__limit=20,
        name="mine",
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with three SAEs, two tasks and a report."""
    folder = tmp_path_factory.mktemp("export") / "results"
    store = Store.open(folder, create=True)
    outcome = run_plan(plan(), store)
    assert not outcome.failed, outcome
    write_plan_report(plan(), store)
    return folder


@pytest.fixture
def export(abench: Abench, results: Path, tmp_path: Path) -> Any:
    def run(form: str, *more: str) -> Path:
        out = tmp_path / form
        answer = abench("export", *more, "--format", form, "--results", results, "--out", out)
        assert answer.code == 0, answer.err
        run.err = answer.err  # type: ignore[attr-defined]
        return out

    return run


def read_scores(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "scores.csv", float_precision="round_trip")


# A table


def test_all_scores_are_a_table(export: Any, results: Path) -> None:
    folder = export("csv")
    table = read_scores(folder)
    report = read_tidy(results / "reports" / "mine" / "data.csv")
    assert len(table) == len(report)
    both = table.merge(report, on=["key", "metric"], suffixes=("", "_report"))
    assert both["value"].tolist() == both["value_report"].tolist()
    assert set(table["sae_key"]) == {sae.key for sae in plan().saes}
    head = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert head["configs"][0]["data_files"] == "scores.csv"


def test_one_sae_by_its_key(export: Any) -> None:
    sae = plan().saes[1]
    assert set(read_scores(export("csv", sae.key[:12]))["sae_key"]) == {sae.key}
    assert len(list(export("saelens", sae.key).rglob("cfg.json"))) == 1


# sae-lens


def test_exported_saes_are_the_trained_ones(export: Any, results: Path) -> None:
    folder = export("saelens", "mine")
    assert "sae-lens lacks multistep: `import abench.variants.saes` before loading" in export.err
    store, x = Store.open(results, create=False), torch.randn(50, 128)
    for job in plan().saes:
        (place,) = folder.glob(f"*/*/{job.label}-*")
        ours, theirs = load_sae(sae_folder(store, job)), SAE.load_from_disk(place)
        assert torch.equal(ours.encode(x), theirs.encode(x))
        assert theirs.cfg.metadata.hook_name == "blocks.2.hook_resid_post"
        assert theirs.cfg.metadata.training_tokens == 2048


# The hub


def snippets(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.slow
def test_the_card_loads_its_saes_from_disk_and_from_the_hub(export: Any, tmp_path: Path) -> None:
    folder = export("hf", "mine", "--licence", "mit")
    card = (folder / "README.md").read_text(encoding="utf-8")
    plain, of_abench, from_hub = snippets(card)
    assert "abench" not in plain
    show = "print(type(sae).__name__, sae.encode(torch.ones(1, 128)).shape[-1])"
    known = "from sae_lens.registry import SAE_CLASS_REGISTRY as registry\nprint(*registry)"
    code = "\n".join(["import abench, torch", plain, show, known, of_abench, show])
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    first, registered, second = run.stdout.splitlines()
    assert (first, second) == ("AbsTopKSAE 64", "MultiStepSAE 64")
    for name in ("topk", "abstopk", "jumprelu", "standard", "multistep", "signedtopk", "batchabstopk"):
        assert is_plain(name) == (name in registered.split()), name
    repository = Repository("models", "me/mine", Commit(folder))
    with Hub([repository]) as hub:
        code = (
            "import abench\n"
            + from_hub.replace("USER/REPOSITORY", "me/mine")
            + "\nanswer = type(sae).__name__"
        )
        (answer,) = ask(client_environment(hub, tmp_path / "home"), code)
    assert answer["answer"] == "AbsTopKSAE", answer


def test_the_card_states_scores_training_and_licence(export: Any, results: Path) -> None:
    folder = export("hf", "mine")
    assert "the model card states no licence: name one with --licence, e.g. --licence mit" in export.err
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["library_name"]) == ("unknown", "saelens")
    store = Store.open(results, create=False)
    cell = next(cell for cell in plan().cells if cell.task.name == "core")
    record = store.get(cell)
    assert record is not None
    assert f"| core 1 | native | `explained_variance` | {record.scores['explained_variance']:.4g} |" in card
    assert "| activations | 2048 |" in card
    (spec,) = folder.glob(f"*/*/{cell.sae.label}-*/training.json")
    assert json.loads(spec.read_text())["spec"] == cell.sae.spec()
    # Nothing about the machine.
    text = "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
    assert str(results) not in text
    assert os.uname().nodename not in card


# sae-bench


@pytest.mark.filterwarnings("ignore::Warning")
def test_sae_bench_reads_and_draws_its_result_files(
    export: Any, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    from sae_bench.sae_bench_utils import graphing_utils

    folder = export("saebench", "mine")
    files = graphing_utils.find_eval_results_files([str(folder)])
    assert len(files) == 6
    store = Store.open(results, create=False)
    for cell in plan().cells:
        if cell.view != "native":
            continue
        (file,) = folder.glob(f"{cell.task.name}/*_{cell.sae.label}-*_eval_results.json")
        found: Any = TypeAdapter(OUTPUTS[cell.task.name]).validate_python(json.loads(file.read_text()))
        record = store.get(cell)
        assert record is not None
        assert found.eval_result_unstructured["abench"]["key"] == cell.key
        assert found.sae_bench_commit_hash.startswith("not run by SAE Bench")
        if cell.task.name == "core":
            kept = found.eval_result_metrics
            assert kept.sparsity.l0 == record.scores["l0"]
            assert kept.model_performance_preservation.ce_loss_score == record.scores["loss_recovered_zero"]
            # What abench does not measure is no number, and is named.
            absent = found.eval_result_unstructured["abench"]["not_measured"]
            assert math.isnan(kept.reconstruction_quality.cossim)
            assert "cossim" in absent
            assert "l0" not in absent
        else:
            assert (
                found.eval_result_metrics.sae.sae_top_5_test_accuracy
                == record.scores["sae_top_5_test_accuracy"]
            )
            assert found.eval_result_metrics.sae.sae_top_10_test_accuracy is None
            assert {each.dataset_name for each in found.eval_result_details} == set(
                record.details["datasets"]
            )
    # The same paths as sae-bench's, since its plots look for the name of the evaluation in the whole path.
    monkeypatch.chdir(folder)
    parts = {task: sorted(map(str, Path().glob(f"{task}/*.json"))) for task in ("core", "sparse_probing")}
    graphing_utils.plot_results(
        parts["sparse_probing"], parts["core"], "sparse_probing", str(tmp_path / "figure"), k=1
    )
    assert (tmp_path / "figure_2var_sae_type.png").stat().st_size > 1000


def test_the_split_view_of_signed_saes(export: Any, results: Path) -> None:
    folder = export("saebench", "mine", "--view", "split")
    (file,) = folder.glob("sparse_probing/*_abstopk_k4*")
    cell = next(c for c in plan().cells if c.sae.variant.name == "abstopk" and c.view == "split")
    assert json.loads(file.read_text())["eval_result_unstructured"]["abench"]["key"] == cell.key
    assert len(list(folder.glob("core/*abstopk_k4*"))) == 1


DETAILS: Mapping[str, Any] = {
    "absorption": {
        "letters": {
            "a": {"mean_absorption_fraction": 0.2, "full_absorption_rate": 0.5, "words": 8, "latents": [1]}
        },
        "std_dev_absorption_fraction_score": 0.1,
        "std_dev_full_absorption_score": 0.2,
        "std_dev_num_split_features": 0.0,
    },
    "scr": {"pairs": {"bios a/b": {"scores": {"dir1": {"2": 0.1}, "metric": {"2": 0.1}}}}},
    "tpp": {"bios": {"drops": {"2": {"total_metric": 0.3}}}},
    "ravel": {"attributes": {"city": {"Country": {}, "Language": {}}}},
    "sparse_probing": {"datasets": {"bios": {"llm_test_accuracy": 0.9, "sae_top_1_test_accuracy": 0.8}}},
}


def cell_of(task: Task) -> dict[str, Any]:
    """A cell with a different score for each declared metric."""
    return {
        "labels": {"model": "m"},
        "scores": {metric.name: 0.25 + i / 1024 for i, metric in enumerate(task.metrics)},
        "details": DETAILS.get(task.name, {}),
        "used": [{"what": "held-out tokens", "used": 4096, "requested": 4096}],
        "parts": [{"what": "data sets", "used": ["bios"], "left_out": {}}],
        "spec": {
            "task": {"options": task.model_dump(mode="json")},
            "evaluation": {"batch_size": 32, "seed": 7},
            "sae": {
                "model": {"dtype": "float32", "context": 128},
                "data": {"dataset": None, "source": "tinyworld"},
            },
        },
    }


def flat(value: Any) -> dict[str, Any]:
    """The metrics of all categories."""
    return {name: each for part in vars(value).values() for name, each in vars(part).items()}


@pytest.mark.parametrize("name", list(TASKS))
def test_every_metric_of_the_same_name_is_taken_over(name: str) -> None:
    task = get_task(name, {}, find_tasks())
    cell = cell_of(task)
    converted = TASKS[name].convert(cell)
    assert converted.output is OUTPUTS[name]
    assert TASKS[name].missing(cell) is None
    found = flat(converted.metrics)
    same = set(cell["scores"]) & set(found) - {"mse"}
    assert {metric: found[metric] for metric in same} == {metric: cell["scores"][metric] for metric in same}
    assert [m.name for m in task.metrics if m.paper and m.name not in same and name != "core"] == []
    numbers = {metric for metric, value in found.items() if isinstance(value, float) and math.isnan(value)}
    assert numbers == set(converted.not_measured)
    config = configuration(converted, cell)
    assert getattr(config, "random_seed", 7) == 7
    assert config.model_name == "m"


def test_absorption_of_a_single_letter_is_left_out() -> None:
    cell = cell_of(get_task("absorption", {}, find_tasks())) | {"details": {"letters": {}}}
    assert "std_dev_absorption_fraction_score" in (TASKS["absorption"].missing(cell) or "")


# Folders of others, and mistakes


def test_an_export_replaces_an_earlier_one_and_nothing_else(
    export: Any, abench: Abench, results: Path
) -> None:
    folder = export("csv")
    before = (folder / "scores.csv").read_bytes()
    assert (export("csv") / "scores.csv").read_bytes() == before
    again = ("export", "--format", "csv", "--results", results, "--out", folder)
    (folder / "notes.txt").write_text("mine")
    answer = abench(*again)
    assert answer.code == 2
    assert (
        "holds notes.txt, which abench export did not write: choose another folder with --out" in answer.err
    )
    (folder / "notes.txt").unlink()
    (folder / "README.md").write_text("edited")
    answer = abench(*again)
    assert answer.code == 2
    assert "README.md was changed since it was exported" in answer.err
    assert (folder / "README.md").read_text() == "edited"
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_a_failed_export_leaves_nothing(abench: Abench, results: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    answer = abench("export", "nothing", "--format", "hf", "--results", results, "--out", out)
    assert answer.code == 2
    assert "no SAE or cell in" in answer.err
    assert list(tmp_path.iterdir()) == []
    inside = results / "reports" / "mine" / "out"
    answer = abench("export", "--format", "csv", "--results", results, "--out", inside)
    assert "is inside the results folder" in answer.err
    assert not inside.exists()
    (tmp_path / "file").write_text("mine")
    answer = abench("export", "--format", "csv", "--results", results, "--out", tmp_path / "file")
    assert "is a file: choose another folder with --out" in answer.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--format", "csv", "--licence", "mit"), "--licence needs --format hf"),
        (("--format", "hf", "--view", "split"), "--view needs --format saebench"),
        ((), "Missing option '--format'"),
    ],
)
def test_options_of_another_format(
    abench: Abench, results: Path, more: tuple[str, ...], message: str
) -> None:
    answer = abench("export", "--results", results, *more)
    assert (answer.code, message in answer.err) == (2, True), answer.err


def test_damaged_files_are_told_and_the_others_exported(
    abench: Abench, results: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "results"
    shutil.copytree(results, broken)
    store, (sae, *_) = Store.open(broken, create=False), plan().saes
    (sae_folder(store, sae) / "cfg.json").write_text("{}")
    cell = cell_file(store, plan().cells[-1])
    cell.write_text(cell.read_text().replace("done", "gone"))
    answer = abench("export", "--format", "saelens", "--results", broken, "--out", tmp_path / "saes")
    assert answer.code == 0, answer.err
    assert "cfg.json is damaged" in answer.err
    assert answer.out == f"2 SAEs written to {tmp_path / 'saes'}\n"
    answer = abench("export", "--format", "csv", "--results", broken, "--out", tmp_path / "csv")
    assert f"{cell} is damaged" in answer.err
    answer = abench("export", sae.key, "--format", "hf", "--results", broken, "--out", tmp_path / "hf")
    assert (answer.code, "cfg.json is damaged" in answer.err) == (2, True)


def test_cells_that_differ_in_their_options(abench: Abench, results: Path, tmp_path: Path) -> None:
    """Equal labels: both are rows of the table, and sae-bench's files need the report that means one."""
    both = tmp_path / "results"
    shutil.copytree(results, both)
    store = Store.open(both, create=False)
    for cell in plan().cells:
        if cell.task.name != "core":
            continue
        other = replace(
            cell, scoring=replace(cell.scoring, task=cell.task.model_copy(update={"outlier_norm": 5.0}))
        )
        record = store.get(cell)
        assert record is not None
        store.put(other, replace(record, key=other.key, spec=other.spec()))
    out = tmp_path / "csv"
    assert abench("export", "--format", "csv", "--results", both, "--out", out).code == 0
    once = abench("export", "--format", "csv", "--results", results, "--out", tmp_path / "once")
    assert once.code == 0
    assert len(read_scores(out)) - len(read_scores(tmp_path / "once")) == 3 * 14
    answer = abench("export", "--format", "saebench", "--results", both, "--out", tmp_path / "sb")
    assert (answer.code, "which differ in their options; name the report" in answer.err) == (2, True)
    assert (
        abench("export", "mine", "--format", "saebench", "--results", both, "--out", tmp_path / "sb").code
        == 0
    )


def test_an_empty_results_folder(abench: Abench, tmp_path: Path) -> None:
    Store.open(tmp_path / "results", create=True)
    for form in ("csv", "saelens", "hf", "saebench"):
        answer = abench(
            "export", "--format", form, "--results", tmp_path / "results", "--out", tmp_path / "out"
        )
        assert answer.code == 2
        assert answer.err.startswith("abench: there")
    assert not (tmp_path / "out").exists()
