"""Runs at the outputs of attention and MLP, from the command line to the report."""

import json
from pathlib import Path

import pytest
from architectures import build_other, build_tokenizer
from command import SMALL, Abench

from abench import site_name
from abench.conformance.bench import Bench
from abench.conformance.check import check_found
from abench.plugins import find_tasks
from abench.variants import load_sae

ATTENTION, MLP = site_name(0, "attn_out"), site_name(0, "mlp_out")
AT = ("--layers", "early", "--sites", "attn_out,mlp_out", "--variants", "abstopk", "--k", "4")
TASKS = ("core", "sparse_probing", "scr", "tpp", "absorption", "ravel", "unlearning")
STEERING = ("safety_utility", "bidirectionality")


def run(abench: Abench, results: Path, tasks: str, *options: str) -> list[dict[str, str]]:
    """The cells of a run that did not fail."""
    given = (*AT, *SMALL, "--tasks", tasks, *options, "--results", str(results))
    result = abench("run", *given)
    assert result.code == 0, result.err
    for site in (ATTENTION, MLP):
        assert f"training 1 SAE at {site}" in result.err
        assert f"tiny, {site}" in result.out
    rows = json.loads(abench("status", *given, "--json").out)
    return [{"task": row["labels"]["task"], "site": row["labels"]["site"]} | row for row in rows]


def test_a_run_at_both_sites_of_a_block(abench: Abench, tmp_path: Path) -> None:
    cells = run(abench, tmp_path, "core")
    assert [(cell["site"], cell["status"]) for cell in cells] == [(ATTENTION, "done"), (MLP, "done")]
    names = {path.name for path in (tmp_path / "reports" / "default").iterdir()}
    assert {f"reconstruction-tiny-{site}.png" for site in (ATTENTION, MLP)} <= names
    for site in (ATTENTION, MLP):
        (folder,) = (tmp_path / "saes" / "tiny" / site).iterdir()
        # What sae-lens and others hook the SAE to.
        assert load_sae(folder).cfg.metadata.hook_name == site
        card = abench("show", folder, "--latent", "3", "--tokens", "512", "--json")
        assert card.code == 0, card.err
        assert json.loads(card.out)["promoted"]
    key = cells[0]["key"][:12]
    assert f"{ATTENTION}" in abench("explain", key, "--results", tmp_path).out


@pytest.mark.slow
def test_every_task_at_both_sites(abench: Abench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise both are skipped there: in the bundled model, the name is not read from this site.
    monkeypatch.setattr("abench.tasks.ravel.LEAST_CEILING", -1.0, raising=False)
    options = ("absorption={min_letters: 1, min_probe_f1: 0}", "safety_utility={strengths: [0.5]}")
    options += ("safety_utility.test_requests=8", "safety_utility.validation_requests=8")
    given = [word for each in options for word in ("--set", f"task_options.{each}")]
    cells = run(abench, tmp_path, ",".join(TASKS + STEERING), "--limit", "60", *given)
    assert {cell["task"] for cell in cells} == {*TASKS, *STEERING}
    assert [(cell["task"], cell["reason"]) for cell in cells if cell["status"] != "done"] == []


BUILT_IN = find_tasks()
SLOW = ("tpp", "scr", "sparse_probing", "unlearning", *STEERING)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(layer=1, site="mlp_out")


@pytest.mark.parametrize("name", ["core", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_tasks_keep_every_rule_there(name: str, bench: Bench) -> None:
    assert bench.site == site_name(1, "mlp_out")
    (verdict,) = check_found([BUILT_IN[name]], {"language": bench})
    assert verdict.problems == []
    assert verdict.not_checked is None


def test_the_first_block_s_bench_is_at_the_same_kind_of_site(bench: Bench) -> None:
    assert bench.at_first_block().site == MLP


def test_a_site_that_the_model_lacks_ends_the_run_before_training(abench: Abench, tmp_path: Path) -> None:
    folder, results = tmp_path / "model", tmp_path / "results"
    build_other("mamba").save_pretrained(folder)
    build_tokenizer(bos=True).save_pretrained(folder)
    given = ("--model", str(folder), *SMALL, "--set", "data.source=tinyworld", "--results", str(results))
    refused = abench("run", *given, "--sites", "resid_post,mlp_out", "--layers", "late")
    assert refused.code == 2
    assert "hook_attn_out and blocks.2.hook_mlp_out: block 2 has no attention module; " in refused.err
    assert refused.err.rstrip().endswith("use blocks.2.hook_resid_post (sites: resid_post)")
    assert "training" not in refused.err
    assert not list(results.rglob("*.safetensors"))


def test_sites_and_layers_are_planned_in_order(abench: Abench, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    which = "layers: [late, 3]\nsites: [mlp_out, resid_post]\n"
    file.write_text(f"model: qwen3-4b\n{which}k: [8]\nvariants: [topk]\n")
    planned = abench("run", file, "--dry-run", "--results", tmp_path / "results")
    assert planned.code == 0
    shown = [line.split()[1] for line in planned.out.splitlines() if "blocks." in line]
    assert shown == [site_name(layer, kind) for layer in (30, 3) for kind in ("mlp_out", "resid_post")]
    file.write_text("model: qwen3-4b\nlayers: [1]\nsites: [mlp_ut]\n")
    refused = abench("run", file, "--dry-run")
    assert refused.code == 2
    assert "run.yaml:3: item 1 of sites: there is no site 'mlp_ut'; did you mean 'mlp_out'?" in refused.err
    model = tmp_path / "mine.yaml"
    model.write_text(
        "title: Mine\nweights: nobody/here\nn_layers: 12\nd_model: 64\nk: [4]\nlayers: [early, middle, 6]\n"
    )
    file.write_text(f"model: {model}\n")
    refused = abench("run", file, "--dry-run")
    assert refused.code == 2
    assert "middle and 6 are the same block: block 6 of 12 (0 to 11)" in refused.err
