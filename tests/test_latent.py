"""`abench show SAE --latent N`: what it prints, as text, as JSON and as a page."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import SMALL, Abench
from pole_saes import planted
from signed import random_sae

from abench import Excerpt, LatentContexts
from abench.cli.latent import _lines
from abench.conformance.bench import Bench
from abench.latents.latent_card import LatentCard, latent_card, neighbours, said
from abench.report.latent_page import latent_page
from abench.tinyworld import MODEL_DIR

FEW = ("--tokens", "2560")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def trained(abench: Abench, results: Path) -> tuple[Path, Path, int]:
    """An SAE's folder, its cell's file, and a latent of it that fires."""
    ran = abench("run", *SMALL, "--variants", "abstopk", "--k", "8", "--results", results)
    assert ran.code == 0, ran.err
    (mark,), (file,) = results.glob("saes/*/*/*/sae.json"), results.glob("cells/*/*/*/*.json")
    for latent in range(20):
        shown = abench("show", mark.parent, "--latent", str(latent), *FEW, "--json", "--results", results)
        if json.loads(shown.out)["contexts"]:
            return mark.parent, file, latent
    raise AssertionError("no latent fires")


def test_a_latent_is_found_by_sae_cell_or_folder(abench: Abench, tmp_path: Path) -> None:
    results = tmp_path / "results"
    folder, file, latent = trained(abench, results)
    outs = []
    for name in (folder.name.rpartition("-")[2], file.stem.rpartition("-")[2], folder):
        shown = abench("show", name, "--latent", str(latent), *FEW, "--results", results)
        assert shown.code == 0, shown.err
        outs.append(shown.out)
    assert outs[0] == outs[1] == outs[2]
    for part in ("positive", "negative", "nearest latents", "most opposite latents", "logits it promotes"):
        assert part in outs[0]
    # No colours where there is no terminal.
    assert "\x1b" not in outs[0] and ("[[" in outs[0] or "{{" in outs[0])
    page = tmp_path / "latent.html"
    args = ("--latent", str(latent), *FEW, "--html", page, "--json", "--results", results)
    card = json.loads(abench("show", folder, *args).out)
    assert card["latent"] == latent and len(card["nearest"]) == 8
    peak = (card["contexts"]["positive"] or card["contexts"]["negative"])[0]
    assert peak["tokens"][peak["peak"]].strip() in page.read_text(encoding="utf-8")
    for args, sentence in [
        (("nosuchkey", "--latent", "1"), "no SAE or cell in"),
        ((folder, "--latent", "100000"), "counted from 0"),
        ((file, "--html", page), "--html needs --latent"),
        ((file, "--model", "tiny"), "--model needs --latent"),
    ]:
        wrong = abench("show", *args, "--results", results)
        assert wrong.code == 2 and sentence in wrong.err


YAML = """
title: My model
weights: mine
n_layers: 4
d_model: 128
layers: [1]
k: [8]
preset: tiny
eos_after_documents: true
data: {source: tinyworld, dataset: null}
"""


@pytest.mark.parametrize("given", ["mine", "my-model.yaml"])
def test_a_model_of_ones_own_is_found_again_from_anywhere(
    abench: Abench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Its folder or YAML file named relatively, the latent looked at from another folder."""
    shutil.copytree(MODEL_DIR, tmp_path / "mine")
    (tmp_path / "my-model.yaml").write_text(YAML)
    results = tmp_path / "results"
    monkeypatch.chdir(tmp_path)
    data = ("--set", "data.source=tinyworld", "--set", "data.dataset=null")
    ran = abench(
        "run", "--model", given, *data, *SMALL, "--variants", "topk", "--k", "8", "--results", results
    )
    assert ran.code == 0, ran.err
    (folder,) = (mark.parent for mark in results.glob("saes/*/*/*/sae.json"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    command = ("show", folder, "--latent", "3", *FEW, "--results", results)
    shown = abench(*command)
    assert shown.code == 0, shown.err
    assert f"Latent 3 of {Path(given).stem} blocks." in shown.out and "nearest latents" in shown.out

    (tmp_path / "mine").rename(tmp_path / "moved")
    gone = abench(*command)
    assert gone.code == 2 and "which does not exist: give its new location with --model" in gone.err
    assert abench(*command, "--model", tmp_path / "moved").out == shown.out
    config = tmp_path / "moved/config.json"
    config.write_text(config.read_text() + "\n")
    other = abench(*command, "--model", tmp_path / "moved")
    assert other.code == 2 and "not those that the SAE was trained on" in other.err


def test_neighbours_are_ranked_by_cosine() -> None:
    decoder = torch.tensor([[1.0, 0.0], [2.0, 0.1], [-3.0, 0.2], [0.0, 1.0]])
    nearest, opposite = neighbours(decoder, 0, 2)
    assert [latent for latent, _ in nearest] == [1, 3]
    assert [latent for latent, _ in opposite] == [2, 3]
    assert nearest[0][1] == pytest.approx(2 / (4.01**0.5))


def test_the_logits_are_those_of_the_norm_and_the_unembedding(bench: Bench) -> None:
    lm = bench.lm
    direction = torch.randn(128, generator=torch.Generator().manual_seed(0))
    weight = lm.model.get_output_embeddings().weight  # type: ignore[union-attr]
    scaled = direction / direction.square().mean().sqrt() * lm.model.model.norm.weight  # type: ignore[union-attr]
    logits = weight @ scaled
    promoted, suppressed = said(lm, direction, 3)  # type: ignore[arg-type]
    for ranked, place in ((promoted, logits.argmax()), (suppressed, logits.argmin())):
        assert ranked[0][0] == lm.tokenizer.decode([int(place)])  # type: ignore[union-attr]
        assert ranked[0][1] == pytest.approx(float(logits[place] - logits.mean()), rel=1e-3)


def test_a_planted_latent_shows_its_axis(bench: Bench) -> None:
    sae = planted(bench.lm, bench.site)  # type: ignore[arg-type]
    where = {"site": bench.site, "data": bench.data, "context_size": 128, "tokens": 12_800}
    card = latent_card(bench.lm, sae, 0, **where)  # type: ignore[arg-type]
    assert card.contexts is not None and card.signed
    sides = [
        {each.tokens[each.peak].strip() for each in side}
        for side in (card.contexts.positive, card.contexts.negative)
    ]
    assert "her" in sides[0] and "his" in sides[1]
    dead = random_sae("topk", width=64, k=4)
    dead.W_enc[:, 5] = 0
    dead.b_enc[5] = -1
    assert latent_card(bench.lm, dead, 5, **where).contexts is None  # type: ignore[arg-type]


def made() -> LatentCard:
    excerpt = Excerpt(("<b>", " \x1b[2J", " dog\n", " cat"), (5.0, 0.0, -5.0, 0.1), 0)
    contexts = LatentContexts(1, (excerpt,), (), 0.1, 0.0)
    return LatentCard(contexts, True, 10, ((2, 0.5),), ((3, -0.5),), (("<script>", 1.0),), (("&", -1.0),))


def test_the_page_of_a_latent_escapes_what_models_and_texts_say() -> None:
    page = latent_page("<title>", made())
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "<b>" not in page and "&lt;b&gt;" in page
    assert "<h1>&lt;title&gt;</h1>" in page


def test_tokens_are_marked_or_coloured_and_cannot_move_the_cursor() -> None:
    (excerpt,) = made().contexts.positive  # type: ignore[union-attr]
    (plain,) = _lines([excerpt], coloured=False)
    assert plain.endswith("[[<b>]] �[2J {dog↵} cat")
    (coloured,) = _lines([excerpt], coloured=True)
    assert "\x1b[38;5;16;48;5;202" in coloured or "48;5;202" in coloured
    assert "48;5;39" in coloured
    assert "\x1b[2J" not in coloured


def test_a_model_whose_weights_changed_is_refused() -> None:
    from abench.errors import UserError
    from abench.runs.recorded_model import open_recorded_model

    spec = {"commit": "0" * 40, "dtype": "float32", "eos_after_documents": True}
    record = SimpleNamespace(spec={"model": spec}, labels={"model": "tiny"}, provenance={})
    with pytest.raises(UserError, match="not those that the SAE was trained on"):
        open_recorded_model(record, "cpu")  # type: ignore[arg-type]


def test_weights_that_change_while_they_are_opened_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first the folder is the one that the SAE was trained on."""
    from abench import LanguageModel
    from abench.errors import UserError
    from abench.lm.origins import folder_hash
    from abench.runs.recorded_model import open_recorded_model

    folder = tmp_path / "mine"
    shutil.copytree(MODEL_DIR, folder)
    spec = {"commit": folder_hash(folder), "dtype": "float32", "eos_after_documents": True}
    record = SimpleNamespace(spec={"model": spec}, labels={"model": "mine"}, provenance={})
    assert open_recorded_model(record, "cpu", str(folder)).name == "mine"  # type: ignore[arg-type]
    load = LanguageModel.load

    def changed(where: Path, **more: object) -> LanguageModel:
        lm = load(where, **more)  # type: ignore[arg-type]
        config = where / "config.json"
        config.write_text(config.read_text() + "\n")
        return lm

    monkeypatch.setattr(LanguageModel, "load", changed)
    with pytest.raises(UserError, match="not those that the SAE was trained on"):
        open_recorded_model(record, "cpu", str(folder))  # type: ignore[arg-type]
