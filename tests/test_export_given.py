"""Exports of SAEs that abench did not train: read again from where they were, and named as what they are."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Abench
from foreign_saes import activations, assert_same, saelens_sae
from pydantic import TypeAdapter
from sae_bench.evals.core.eval_output import CoreEvalOutput
from sae_lens import SAE

import abench as library

SITE = "blocks.1.hook_resid_post"
OPTIONS = ("--set", "context=32", "--set", "evaluation.tokens=256", "--limit", "4", "--site", SITE)
D_MODEL = 128


def sae_of(architecture: str, **settings: Any) -> SAE[Any]:
    return saelens_sae(architecture, d_in=D_MODEL, **settings)


@pytest.fixture(scope="module")
def saes() -> dict[str, SAE[Any]]:
    """One with a normalisation, one signed, and one with thresholds; their decoder rows have any norm."""
    return {
        "normalised": sae_of("topk", normalize_activations="layer_norm"),
        "signed": sae_of("abstopk"),
        "jumps": sae_of("jumprelu"),
    }


@pytest.fixture
def scored(
    abench: Abench, saes: dict[str, SAE[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder, with `results` of three folders of sae-lens."""
    monkeypatch.chdir(tmp_path)
    for name, sae in saes.items():
        sae.save_model(tmp_path / name)
    answer = abench("run", "--sae", ",".join(saes), "--model", "tiny", *OPTIONS)
    assert answer.code == 0, answer.err
    return tmp_path


def test_all_formats(abench: Abench, saes: dict[str, SAE[Any]], scored: Path) -> None:
    for form in ("saelens", "hf", "saebench", "csv"):
        answer = abench("export", "--format", form)
        assert answer.code == 0, answer.err

    x = activations(d_in=D_MODEL)
    for name, sae in saes.items():
        (folder,) = Path("export-saelens").glob(f"tiny/{SITE}/{name}-*")
        again = SAE.load_from_disk(folder)
        codes = sae.encode(x)
        assert_same(again, codes, sae.decode(codes), x)
        # The site that was scored, not the one that its own files state.
        assert again.cfg.metadata.hook_name == SITE
        assert again.cfg.metadata.imported_from == name

    card = Path("export-hf/README.md").read_text(encoding="utf-8")
    assert "Scored, but not trained, with abench" in card and "\nTrained with abench" not in card
    assert "/signed-" in card and ": from the local `signed`, in the format of sae-lens" in card
    assert "training.json" not in card and str(scored) not in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "saelens"

    files = list(Path("export-saebench/core").iterdir())
    found = [TypeAdapter(CoreEvalOutput).validate_python(json.loads(file.read_text())) for file in files]
    assert {each.sae_cfg_dict["architecture"] for each in found} == {"topk", "abstopk", "jumprelu"}
    assert {each.eval_config.dataset for each in found} == {"tinyworld"}


def test_one_that_is_gone_or_has_changed_is_left_out(abench: Abench, scored: Path) -> None:
    shutil.rmtree("jumps")
    sae_of("abstopk", apply_b_dec_to_input=False).save_model("signed")
    answer = abench("export", "--format", "saelens")
    assert answer.code == 0 and "1 SAE written" in answer.out, answer.err
    assert "left out: the SAE jumps cannot be read again: " in answer.err
    assert "signed has changed since it was scored" in answer.err
    # The scores remain, and need no weights.
    assert "3 result files written" in abench("export", "--format", "saebench").out
    shutil.rmtree("normalised")
    answer = abench("export", "--format", "hf", "--out", "none")
    assert answer.code == 2 and "there are no SAEs to export" in answer.err
    assert not Path("none").exists()


def test_an_object_in_memory_has_scores_but_no_weights(abench: Abench, tmp_path: Path) -> None:
    results = tmp_path / "results"
    library.evaluate(
        {"mine": sae_of("topk")},
        model="tiny",
        site=SITE,
        results=results,
        context=32,
        evaluation={"tokens": 256, "limit": 4},
    )
    answer = abench("export", "--format", "saelens", "--results", results, "--out", tmp_path / "out")
    assert answer.code == 2 and "mine was an object in memory" in answer.err
    answer = abench("export", "--format", "saebench", "--results", results, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err


def test_scores_of_another_text_are_not_those_of_the_first(abench: Abench, scored: Path) -> None:
    text = Path("texts.jsonl")
    text.write_text("\n".join(json.dumps({"text": f"number {n} of many " * 20}) for n in range(200)) + "\n")
    own = ("--set", "data.source=file", "--set", f"data.dataset={text}")
    for computed in (1, 0):
        answer = abench("run", "--sae", "signed", "--model", "tiny", *OPTIONS, *own)
        assert answer.code == 0, answer.err
        assert f"{computed} cell{'' if computed == 1 else 's'} computed" in answer.out
    text.write_text(text.read_text() * 2)
    answer = abench("run", "--sae", "signed", "--model", "tiny", *OPTIONS, *own)
    assert "1 cell computed" in answer.out
