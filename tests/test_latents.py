"""`abench latents`: which latents of an SAE come first, by SAEs whose latents are known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from command import SMALL, Abench
from pole_saes import AXES
from signed import random_sae

import abench.latents.survey as surveying
from abench.conformance.bench import Bench
from abench.latents.latent_card import held_out_rows
from abench.latents.ranked import RankedLatent, first_latents
from abench.latents.rankings import NO_WORDS, RANKINGS, usual_ranking
from abench.latents.survey import LEAST_FIRINGS, Survey, survey
from abench.latents.word_labels import LEAST_WORDS, Followed
from abench.lm.tokens import ordinary
from abench.report.latent_list import latent_list, row
from abench.tinyworld.lexicon import axis_of, described, wide_labels
from abench.variants import SAEShape, get_variant, variant_names


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


class WordReader:
    """Latents that fire with each sign on the words of an axis's poles, and a last one that is silent.

    A word is recognised by the nearest of the words' mean activations.
    """

    def __init__(self, lm: Any, site: str) -> None:
        rows = held_out_rows(lm, Bench().data, 128, 25_600)
        mask = ordinary(rows, lm)
        x, tokens = torch.cat([lm.residual(part, site) for part in rows.split(20)])[mask], rows[mask]
        ids = tokens.unique()
        self.means = torch.stack([x[tokens == token].mean(0) for token in ids])
        words = [lm.tokenizer.decode([token]) for token in ids.tolist()]
        self.codes = torch.tensor([[sign_of(word, axis) for axis in (*AXES, "none")] for word in words])
        self.W_dec = torch.eye(3, x.shape[1])
        self.W_dec[1] = torch.tensor([-0.9, 0.1])[:, None].T @ self.W_dec[:2]
        self.W_enc = torch.eye(x.shape[1], 3)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.codes[torch.cdist(x, self.means).argmin(-1)]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes @ self.W_dec


def sign_of(word: str, axis: str) -> float:
    labels = wide_labels().get(word, ())
    return float(f"{axis}+" in labels) - float(f"{axis}-" in labels)


def surveyed(bench: Bench, sae: Any, tokens: int, *, words: bool = True) -> Survey:
    rows = held_out_rows(bench.lm, bench.data, 128, tokens)  # type: ignore[arg-type]
    known = wide_labels() if words else None
    return survey(bench.lm, sae, rows, site=bench.site, known=known)  # type: ignore[arg-type]


def test_planted_latents_are_found_with_the_poles_that_they_follow(bench: Bench) -> None:
    found = surveyed(bench, WordReader(bench.lm, bench.site), 12_800)
    listed = first_latents(found, RANKINGS["concept"], 5)
    # The silent latent is not ranked.
    assert sorted(each.latent for each in listed) == [0, 1]
    for each in listed:
        assert each.follows is not None
        up, down = each.follows
        axis = AXES[each.latent]
        assert up is not None and down is not None
        assert (up.label, down.label) == (f"{axis}+", f"{axis}-")
        assert axis_of((up.label, down.label)) == axis and min(up.f1, down.f1) > 0.6
    (both,) = first_latents(found, RANKINGS["opposites"], 5)
    assert {both.latent, both.opposite} == {0, 1}
    assert both.opposite_cosine is not None and both.opposite_cosine < -0.9
    assert [each.latent for each in first_latents(found, RANKINGS["drift"], 5)] == [1, 0]
    assert usual_ranking(found) == "two-sided"


def test_a_survey_counts_what_encode_gives(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Firings, strongest tokens and F1 scores, in several batches, against dense codes."""
    monkeypatch.setattr(surveying, "tokens_at_once", lambda _: 640)
    sae = random_sae("abstopk", width=48, k=4)
    rows = held_out_rows(bench.lm, bench.data, 128, 2560)  # type: ignore[arg-type]
    lm: Any = bench.lm
    found = survey(lm, sae, rows, site=bench.site, known=wide_labels())
    tokens = rows[ordinary(rows, lm)]
    codes = sae.encode(
        torch.cat([lm.residual(part, bench.site) for part in rows.split(5)])[ordinary(rows, lm)]
    )
    words = [lm.tokenizer.decode([token]) for token in tokens.tolist()]
    labels = [set(wide_labels().get(word, ())) for word in words]
    names = sorted(set().union(*labels))
    carried = torch.tensor([[name in each for name in names] for each in labels]).double()
    assert found.tokens == len(tokens) and found.followed is not None
    for side, signed in enumerate((codes, -codes)):
        fired = signed > 0
        assert torch.equal(found.firings[side], fired.sum(0))
        together = carried.T @ fired.double()
        f1 = 2 * together / (carried.sum(0)[:, None] + fired.sum(0))
        f1[carried.sum(0) < LEAST_WORDS] = 0
        for latent in range(48):
            best = found.followed[side][latent]
            assert (0.0 if best is None else best.f1) == pytest.approx(float(f1[:, latent].max()))
            peak = words[int(signed[:, latent].argmax())] if fired[:, latent].any() else None
            assert found.peaks[side][latent] == peak


def made(firings: Sequence[Sequence[int]], decoder: torch.Tensor | None = None) -> Survey:
    sae = random_sae("abstopk", d_in=4, width=len(firings[0]), k=1)
    if decoder is not None:
        sae.W_dec.copy_(decoder)
    nothing: tuple[str | None, ...] = (None,) * len(firings[0])
    return Survey(sae, 1000, torch.tensor(firings), (nothing, nothing), None)


def order(found: Survey, by: str) -> list[int]:
    return [latent for latent, _ in RANKINGS[by].order(found)]


def test_each_ranking_is_as_defined() -> None:
    few = LEAST_FIRINGS - 1
    found = made([[30, 50, 10, few, 40, 0], [0, 10, 30, 0, 40, 200]])
    assert order(found, "two-sided") == [4, 2, 1]
    assert order(found, "rate") == [5, 4, 1, 2, 0]
    assert order(made([[30, 0], [0, 0]]), "opposites") == []
    decoder = torch.tensor([[1.0, 0, 0, 0], [-2.0, 0.1, 0, 0], [0, 1, 0, 0], [0, -1.0, 0, 0], [0, 0, 1, 0]])
    opposed = made([[30, 30, 30, few, 30], [0] * 5], decoder)
    # Latent 3, the opposite of 2, fires too rarely; 0 and 1 are one pair.
    assert order(opposed, "opposites")[0] == 0 and 1 not in order(opposed, "opposites")
    assert 3 not in order(opposed, "opposites") and int(opposed.opposites[0][2]) != 3
    turned = made([[30] * 5, [0] * 5], decoder)
    turned.sae.W_enc.copy_(decoder.T)
    turned.sae.W_enc[:, 3] *= -1
    turned.sae.W_enc[:, 1] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert order(turned, "drift")[:2] == [3, 1]
    assert usual_ranking(made([[30, 30], [0, 0]])) == "rate"


@pytest.mark.parametrize("variant", variant_names())
def test_drift_is_measured_from_where_training_starts(variant: str) -> None:
    sae = get_variant(variant, {}).build(SAEShape(16, 32, 4), seed=0)
    with torch.no_grad():
        cosine = torch.nn.functional.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=-1)
    assert torch.allclose(cosine, torch.ones(32), atol=1e-4)


def test_labels_are_described() -> None:
    assert described("gender+") == "gender: female" and described("profession:nurse") == "profession:nurse"
    assert axis_of(("gender-", "gender+")) == "gender"
    assert axis_of(("gender+", "gender+")) is None and axis_of(("gender+", None)) is None


def test_the_page_escapes_tokens_and_links_the_cards() -> None:
    follows = (Followed("gender+", 0.9), Followed("harm-", 0.02))
    hostile = RankedLatent(3, 0.4, (0.01, 0.02), ("<script>", None), 7, -0.5, None, follows)
    about = {"by": "rate", "definition": "<d>", "counted": 2, "width": 9, "least_firings": 20, "tokens": 100}
    page = latent_list("<t>", about, [hostile], {3: "my list#/latent-3.html"})
    assert "<script>" not in page and "<h1>&lt;t&gt;</h1>" in page and "&lt;d&gt;" in page
    assert '<a href="my%20list%23/latent-3.html">3</a>' in page and "<td>7</td>" in page
    assert row(hostile)[-2:] == ["gender: female 0.90", None]


def test_latents_are_listed_with_their_cards(abench: Abench, tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "pages" / "list.html"
    ran = abench("run", *SMALL, "--variants", "abstopk", "--k", "8", "--results", results)
    assert ran.code == 0, ran.err
    (mark,) = results.glob("saes/*/*/*/sae.json")
    label, _, key = mark.parent.name.rpartition("-")
    few = ("--tokens", "2560", "--results", results)
    shown = [abench("latents", name, *few, "--top", "3") for name in (label, key, mark.parent)]
    assert {each.code for each in shown} == {0}, shown[0].err
    assert "ranked by two-sided" in shown[0].out and "follows" in shown[0].out
    assert f"abench show {label} --latent " in shown[0].out
    listed = json.loads(abench("latents", key, *few, "--by", "opposites", "--html", page, "--json").out)
    assert listed["by"] == "opposites" and 0 < len(listed["latents"]) <= 20
    text = page.read_text(encoding="utf-8")
    first = listed["latents"][0]
    for latent in (first["latent"], first["opposite"]):
        file = page.parent / f"list-latents/latent-{latent}.html"
        assert f'href="list-latents/{file.name}"' in text
        assert 'href="../list.html"' in file.read_text(encoding="utf-8")
    assert first["card"] == str(page.parent / f"list-latents/latent-{first['latent']}.html")
    card = json.loads(abench("show", key, "--latent", str(first["latent"]), *few, "--json").out)
    assert card["contexts"]["positive_rate"] == pytest.approx(first["rates"][0])
    assert card["opposite"][0][1] <= first["opposite_cosine"] + 1e-5
    for args, sentence in [
        (("nosuchkey",), "no SAE or cell in"),
        ((key, "--by", "age"), "is not one of"),
        ((key, "--top", "0"), "--top"),
    ]:
        wrong = abench("latents", *args, "--results", results)
        assert wrong.code == 2 and sentence in wrong.err

    lines = (json.dumps({"text": f"she met the old nurse and {n} friends in the snow."}) for n in range(900))
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = ("--set", "data.source=file", "--set", f"data.dataset={tmp_path / 'texts.jsonl'}")
    of_given = tmp_path / "given"
    ran = abench("run", "--sae", mark.parent, *data, *SMALL[4:], "--tasks", "core", "--results", of_given)
    assert ran.code == 0, ran.err
    (given,) = of_given.glob("saes/*/*/*/sae.json")
    name = given.parent.name.rpartition("-")[2]
    shown_given = abench("latents", name, "--tokens", "2560", "--results", of_given)
    assert shown_given.code == 0 and "follows" not in shown_given.out, shown_given.err
    refused = abench("latents", name, "--by", "concept", "--results", of_given)
    assert refused.code == 2 and NO_WORDS in refused.err
