"""Configurations that stand for several runs: those that reproduce the paper, and a user's own."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from command import SMALL, Abench

from abench.config import load_run, run_groups
from abench.errors import UserError
from abench.runs.planner import RunRequest, plan_run

PARTS = {
    "figure-reconstruction": ("core",),
    "table1-steering": ("safety_utility",),
    "table2-bidirectionality": ("bidirectionality",),
    "table3-tasks": ("unlearning", "absorption", "scr", "tpp", "ravel", "sparse_probing"),
    "table4-autointerp": ("core", "autointerp"),
    "table6-depth": ("safety_utility",),
    "toy": ("recovery",),
}


@pytest.mark.parametrize("model", [None, "tiny", "smollm2-135m"])
def test_paper_stands_for_every_part_at_full_size_or_on_a_small_model(model: str | None) -> None:
    groups = run_groups("paper", {"model": model})
    assert len(groups) == len(PARTS)
    for (name, tasks), group in zip(PARTS.items(), groups, strict=True):
        for member in group:
            options = {} if member.own_model else {"model": model}
            plan = plan_run(RunRequest(member.source, options), fetch=False, say=print)
            assert plan.config.name == name
            assert tuple(dict.fromkeys(cell.task.name for cell in plan.cells)) == tasks
            assert (model is None) or plan.model.name in (model, "synthetic-toy")
            if model is None and name != "toy":
                assert {sae.training.tokens for sae in plan.saes} == {122_880_000}  # type: ignore[attr-defined]


def test_the_real_models_and_layers_of_table_1() -> None:
    (group,) = run_groups("table1-steering", {})
    sites = {}
    for member in group:
        plan = plan_run(RunRequest(member.source), fetch=False, say=print)
        sites[plan.model.name] = [each.site for each in plan.groups]
    assert list(sites) == ["qwen3-4b", "gemma-2-2b", "llama-3.1-8b", "gemma-3-12b"]
    assert sites["qwen3-4b"] == ["blocks.18.hook_resid_post", "blocks.20.hook_resid_post"]
    (only,) = run_groups("table1-steering", {"model": "gemma-2-2b"})[0]
    assert only.source == "table1-steering:gemma-2-2b"
    # An alias names the same small run.
    plan = plan_run(RunRequest("table1-steering", {"model": "smollm2"}), fetch=False, say=print)
    assert plan.config.task_options["safety_utility"]["judge"] == "substring"


def two_sites(folder: Path) -> Path:
    file = folder / "mine.yaml"
    each = [{"model": "tiny", "layers": [1]}, {"model": "tiny", "layers": [2]}]
    content = {"name": "mine", "variants": ["topk"], "k": [8], "tasks": ["core"], "each": each}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def test_runs_of_one_configuration_share_a_report_from_which_they_are_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    abench, results = Abench(capsys, monkeypatch), tmp_path / "results"
    options = ("--limit", "4", *SMALL, "--results", results)
    result = abench("run", two_sites(tmp_path), *options, "--device", "cpu")
    assert result.code == 0, result.err
    assert "2 cells computed" in result.out
    folder = results / "reports" / "mine"
    sites = {"blocks.1.hook_resid_post", "blocks.2.hook_resid_post"}
    assert set(pd.read_csv(folder / "data.csv")["site"]) == sites
    recorded = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert [each["layers"] for each in recorded["configuration"]["each"]] == [[1], [2]]
    before = (folder / "index.html").read_bytes()
    assert abench("report", folder).code == 0
    assert (folder / "index.html").read_bytes() == before
    # Without its options, the run is another one, of which nothing has been computed.
    as_run = abench("report", two_sites(tmp_path), "--results", results)
    assert as_run.code == 0, as_run.err
    assert "nothing of mine as configured has been computed" in as_run.err
    assert "--limit 4" in as_run.err.partition("the report of `abench run ")[2]
    assert (folder / "index.html").read_bytes() == before
    refused = abench("report", two_sites(tmp_path), "--k", "4", "--results", results)
    assert refused.code == 2 and "has values of 2 cells that the new one would lack" in refused.err
    again = abench("run", "--from", folder / "provenance.json", "--results", results, "--device", "cpu")
    assert "2 of 2 cells with the same key have exactly the same scores." in again.out
    status = abench("status", folder)
    assert (status.code, status.out.splitlines()[-1]) == (0, "2 done")


def test_runs_that_one_table_cannot_tell_apart_are_refused_before_anything_is_computed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    abench, results = Abench(capsys, monkeypatch), tmp_path / "results"
    # The layers of the command line replace those of both entries.
    for more in ((), ("--dry-run", "--no-calibration")):
        refused = abench("run", two_sites(tmp_path), "--layers", "1", *SMALL, "--results", results, *more)
        assert refused.code == 2
        assert "mine.yaml:tiny#2 would share a report that cannot tell their cells apart" in refused.err
        assert not refused.out and not results.exists()
    # The same SAEs with other tasks are other cells.
    each = [{"model": "tiny", "tasks": [task]} for task in ("core", "interference")]
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "layers": [1], "k": [8], "each": each}), encoding="utf-8")
    assert abench("run", file, "--dry-run", "--no-calibration", "--results", results).code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"each": []}, "each must be a list of mappings that each have a model"),
        ({"each": [{"k": [8]}]}, "each must be a list of mappings that each have a model"),
        ({"runs": ["paper"]}, "'paper' has runs of its own"),
        ({"runs": ["toy"], "k": [8]}, "a configuration with runs holds nothing but a description"),
        ({"runs": ["tyo"]}, "did you mean 'toy'?"),
    ],
)
def test_a_description_of_several_runs_that_is_not_valid_is_a_sentence(
    content: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(UserError) as error:
        run_groups(str(file), {})
    assert message in str(error.value)


def test_one_plan_of_several_runs_needs_a_choice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="put one of :tiny, :tiny#2 after its name, or set a model"):
        plan_run(RunRequest(str(two_sites(tmp_path))), fetch=False, say=print)
    with pytest.raises(UserError, match="did you mean 'gemma-2-2b'"):
        plan_run(RunRequest("table1-steering:gemma-2-2c"), fetch=False, say=print)
    plan = plan_run(RunRequest(f"{two_sites(tmp_path)}:tiny#2"), fetch=False, say=print)
    assert plan.groups[0].site == "blocks.2.hook_resid_post"


def test_several_reports_cannot_share_a_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = Abench(capsys, monkeypatch)(
        "run", "paper", "--model", "tiny", "--name", "x", "--results", tmp_path
    )
    assert (result.code, "cannot all have one --name" in result.err) == (2, True)


def test_list_configs_says_what_each_gives_and_costs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        row["name"]: row
        for row in json.loads(Abench(capsys, monkeypatch)("list", "configs", "--model", "tiny", "--json").out)
    }
    assert set(rows) == {*PARTS, "paper"} - {"toy"}
    assert rows["table1-steering"]["models"] == "tiny"
    assert rows["table1-steering"]["SAEs"] == 3
    assert "Table 1" in rows["table1-steering"]["gives"]
    parts = [float(rows[name]["FLOPs"]) for name in rows if name != "paper"]
    assert float(rows["paper"]["FLOPs"]) >= max(parts) > 1e12


@pytest.mark.parametrize("key", ["each", "small"])
def test_an_entry_keeps_the_other_keys_of_a_part_that_it_changes(key: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    content = {"name": "mine", "training": {"tokens": 40_960}, "each": [{"model": "gpt2"}]}
    content[key] = [{"model": "tiny", "training": {"learning_rate": 0.003}}]
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    source = f"{file}:tiny" if key == "each" else str(file)
    training = load_run(source, {"model": "tiny"}).training
    assert (training.tokens, training.learning_rate) == (40_960, 0.003)
