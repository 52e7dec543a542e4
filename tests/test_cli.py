"""The command line: help everywhere, listings, and for every mistake a sentence and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from command import SMALL, Abench
from generators.commands import page

from abench.cli import cli
from abench.cli.text import columns

PAGE = page()
"""The reference of the command line on the documentation site."""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


@pytest.mark.parametrize(
    ("path", "command"), commands(cli), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_has_help_and_stands_in_the_docs(
    path: tuple[str, ...], command: click.Command
) -> None:
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert all(name in PAGE for name in parameter.opts)
    assert f"## abench {' '.join(path)}\n" in PAGE


def test_help_imports_neither_torch_nor_pydantic() -> None:
    code = "import sys, abench.cli; print({'torch', 'pydantic', 'pandas', 'rich'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("what", ["models", "variants", "tasks", "executors", "configs"])
def test_listings_are_text_and_json(abench: Abench, what: str) -> None:
    text = abench("list", what)
    rows = json.loads(abench("list", what, "--json").out)
    assert text.code == 0
    assert rows
    assert all(str(row["name"]) in text.out for row in rows)


def test_the_paper_s_variants_are_listed(abench: Abench) -> None:
    rows = {row["name"]: row for row in json.loads(abench("list", "variants", "--json").out)}
    signed = {"abstopk": "yes", "batchabstopk": "yes"}
    for name in ("relu", "gated", "jumprelu", "topk", "batchtopk", "abstopk", "batchabstopk"):
        assert rows[name]["signed"] == signed.get(name, "no")


MISTAKES = [
    (["--variants", "abstopkk"], "abstopk"),
    (["--variants", "abstopk,,abstopk"], "given more than once: abstopk"),
    (["--model", "qwen-4b"], "did you mean 'qwen3-4b'?"),
    (["--tasks", "cor"], "unknown task 'cor'; did you mean 'core'?"),
    (["--metrics", "nmse,explained_varianc"], "metrics: there is no 'explained_varianc'; did you mean"),
    (["--set", "task_options.core.outlier=3"], "no option 'outlier'; did you mean 'outlier_norm'?"),
    (["--set", "task_options.cores.outlier_norm=3"], "there is no 'cores'"),
    (["--set", "variant_options.topk.aux_los_coefficient=1"], "aux_loss_coefficient"),
    (["--set", "variant_options.topkk.aux_loss_coefficient=1"], "did you mean"),
    (["--set", "trainin.tokens=3"], "unknown key 'trainin'; did you mean 'training'?"),
    (["--k", "2048"], "k = 2048 must be smaller than the width (2048 latents)"),
    (["--k", "0"], "k must be at least 1"),
    (["--k", "-4"], "k must be at least 1"),
    (["--k", "four"], "'four' is not a list of whole numbers"),
    (["--seeds", "0,0"], "given more than once: 0"),
    (["--layer", "4"], "--layers: layer 4 is out of range"),
    (["--layers", "-1"], "item 1 of --layers must be at least 0 (got -1)"),
    (["--layers", "midle"], "a block, counted from 0, or a name; did you mean 'middle'? (got 'midle')"),
    (["--layers", "2,early,middle"], "--layers: 2 and middle are the same block: block 2 of 4 (0 to 3)"),
    (["--layers", "late,late"], "--layers: given more than once: late"),
    (["--set", "layers=[1.5]"], "item 1 of --set layers must be a whole number (got 1.5)"),
    (["--set", "layers=['2']"], "item 1 of --set layers: must be the number of a block, counted from 0"),
    (["--sites", "atn_out"], "item 1 of --sites: there is no site 'atn_out'; did you mean 'attn_out'?"),
    (["--sites", "attn_out,attn_out"], "--sites: given more than once: attn_out"),
    (["--sites", ","], "--sites: at least one is needed"),
    (["--model", "synthetic", "--sites", "mlp_out"], "--sites: Synthetic"),
    (["--tokens", "0"], "--tokens must be at least 1 (got 0)"),
    (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
    (["nothing-like-it"], "is neither a file nor a run that comes with abench"),
    (["nothing.yaml"], "nothing.yaml cannot be read"),
    (["--tasks-dir", "nowhere"], "--plugins nowhere is not a folder"),
    (["--plugins", "nowhere"], "--plugins nowhere is not a folder"),
    (["--no-such-option"], "No such option"),
]


@pytest.mark.parametrize(
    ("options", "sentence"), MISTAKES, ids=[" ".join(options) for options, _ in MISTAKES]
)
def test_a_mistake_is_a_sentence_and_leaves_nothing(
    abench: Abench, tmp_path: Path, options: list[str], sentence: str
) -> None:
    results = tmp_path / "results"
    result = abench("run", *options, "--results", results)
    assert result.code == 2
    assert sentence in result.err
    assert "Traceback" not in result.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "abench.json"]


def test_a_config_that_is_not_yaml(abench: Abench, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("variants: [a\nk: 3")
    result = abench("run", tmp_path / "run.yaml")
    assert result.code == 2
    assert "run.yaml:" in result.err
    assert "is not valid YAML" in result.err


@pytest.mark.parametrize("damage", ["absent", "empty", "truncated"])
def test_a_model_folder_without_whole_weights(abench: Abench, tmp_path: Path, damage: str) -> None:
    from abench.tinyworld import MODEL_DIR

    folder = tmp_path / "model"
    folder.mkdir()
    for file in MODEL_DIR.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    whole = (MODEL_DIR / "model.safetensors").read_bytes()
    if damage != "absent":
        (folder / "model.safetensors").write_bytes(b"" if damage == "empty" else whole[: len(whole) // 2])
    result = abench("run", "--model", folder, "--results", tmp_path / "results")
    assert result.code == 2
    assert ("has no weights" if damage == "absent" else "is damaged") in result.err
    assert not (tmp_path / "results").exists()


def test_a_results_folder_without_checksums(abench: Abench, tmp_path: Path) -> None:
    (tmp_path / "abench.json").write_text('{"schema": 0}')
    result = abench("run", *SMALL, "--results", tmp_path)
    assert result.code == 2
    assert "an earlier version of abench, without checksums" in result.err


def test_a_results_folder_that_cannot_be_written(abench: Abench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = abench("run", *SMALL, "--results", tmp_path / "file" / "results")
    assert result.code == 2
    assert "cannot be written" in result.err


def test_the_paper_s_model_plans_and_fails_only_for_want_of_weights(abench: Abench, tmp_path: Path) -> None:
    options = ["--variants", "abstopk,topk", "--model", "qwen3-4b", "--results", tmp_path / "results"]
    plan = abench("run", *options, "--dry-run")
    assert plan.code == 0
    assert plan.out.count("blocks.18.hook_resid_post") == plan.out.count("blocks.20.hook_resid_post") == 2
    assert "40960" in plan.out
    run = abench("run", *options)
    assert run.code == 2
    assert len(run.err.splitlines()) == 1
    for hint in ("Qwen/Qwen3-4B", "HF_TOKEN", "--model PATH"):
        assert hint in run.err
    assert not (tmp_path / "results").exists()


def test_dry_run_computes_nothing(abench: Abench, tmp_path: Path) -> None:
    result = abench("run", "--dry-run", "--results", tmp_path / "results")
    assert result.code == 0
    assert result.out.count("to do") == 6
    assert not (tmp_path / "results").exists()


def test_status_of_nothing(abench: Abench, tmp_path: Path) -> None:
    result = abench("status", "--results", tmp_path)
    assert result.code == 2
    assert "is not a results folder" in result.err


def test_columns_are_aligned_and_what_acts_in_them_is_made_visible() -> None:
    rows = [["a", 10, "x"], ["bb\x1b[2J", None, ""]]
    assert columns(rows, ["name", "n", "rest"]).splitlines() == [
        "name    n   rest",
        "a       10  x",
        "bb␛[2J  —",
    ]
    assert columns([], ["name", "n"]) == "name  n"


def test_tinyworld_show(abench: Abench) -> None:
    text = abench("tinyworld", "show", "--kind", "review")
    assert text.code == 0
    assert "sentiment" in text.out
    rows = json.loads(abench("tinyworld", "show", "--json", "-n", "2").out)
    assert all(len(row["words"]) == len(row["concepts"]) for row in rows)
    assert abench("tinyworld", "show", "--kind", "revew").code == 2


def test_doctor_finds_this_installation_well(abench: Abench, tmp_path: Path) -> None:
    result = abench("doctor", "--results", tmp_path / "results", "--json")
    findings = json.loads(result.out)
    assert [finding for finding in findings if not finding["ok"]] == []
    assert result.code == 0


def test_doctor_names_what_is_broken(abench: Abench, tmp_path: Path) -> None:
    (tmp_path / "abench.json").write_text('{"schema": 0}')
    result = abench("doctor", "--results", tmp_path)
    assert result.code == 1
    assert "BROKEN" in result.out


def test_all_tasks_are_those_that_need_nothing_else(abench: Abench) -> None:
    rows = abench("run", "--dry-run", "--tasks", "all").out
    assert "unlearning" in rows
    assert "safety_utility" not in rows


def test_a_dry_run_says_what_the_saes_of_a_site_share(abench: Abench) -> None:
    many = abench("run", "--model", "smollm2", "--dry-run")
    # 16 blocks of 24 · 576² operations per token, against 4 · 576 · 4,608 for a step.
    assert "costs about 12 times as much" in many.out
    assert "training these 3 SAEs costs about 1.2 times as much as training one per site" in many.out
    one = abench("run", "--model", "smollm2", "--variants", "topk", "--dry-run")
    assert "another SAE per site would add about 8%" in one.out
    assert "Reading the text" not in abench("run", "toy", "--dry-run").out
