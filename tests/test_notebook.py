"""Functions for a notebook: the page runs as it stands, texts are read as in training, one-line results."""

import io
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import doc_blocks
import pytest
import torch
from signed import random_sae

import abench
from abench import (
    ClampLatent,
    LanguageModel,
    UserError,
    activations_of,
    firing_rates,
    ordinary,
    steered,
    top_contexts,
)
from abench.conformance.rewritten import Bare
from abench.data.text_rows import text_rows
from abench.data.token_rows import TokenRows
from abench.kept import FolderKept
from abench.tinyworld import MODEL_DIR, World
from abench.variants import load_sae, save_sae

SITE = "blocks.2.hook_resid_post"
PAGE = "docs/notebook.md"


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load("tiny")


def texts(count: int = 9) -> list[str]:
    return [document.text for document in World().reviews("test", count)]


def test_the_page_runs_and_shows_what_it_says() -> None:
    blocks = doc_blocks.texts(PAGE, "python")
    place: dict[str, Any] = {}
    printed = io.StringIO()
    with redirect_stdout(printed):
        for block in blocks:
            exec(block, place)
    assert printed.getvalue().count("Excerpt(+") == 3
    shown = re.findall(r"^([^\s#][^#\n]*?)  # (\[?[A-Z]\w+\(.*)$", "".join(blocks), re.MULTILINE)
    assert len(shown) == 5
    for expression, text in shown:
        assert re.fullmatch(re.escape(text).replace("…", ".+"), repr(eval(expression, place))), expression


# Texts


@pytest.mark.parametrize("context", [7, 32, 128])
@pytest.mark.parametrize("architecture", ["gpt2", "pythia-70m"])  # with BOS, and with EOS only
def test_rows_of_texts_are_those_of_training_with_all_tokens(
    architecture: str, context: int, model_folder: Callable[[str], Path]
) -> None:
    lm = LanguageModel.load(str(model_folder(architecture)))
    rows = text_rows(lm, texts(), context)
    kept = rows[ordinary(rows, lm)].tolist()
    assert kept == [token for ids in lm.token_ids(texts()) for token in ids]
    begin = [] if lm.bos_id is None else [lm.bos_id]
    assert all(row[: len(begin)] == begin for row in rows.tolist())


def test_rows_are_packed_as_the_rows_of_a_data_source_are(lm: LanguageModel) -> None:
    data = abench.DataSpec(source="tinyworld", dataset=None)
    expected = TokenRows(lm, data, "held_out", 64).batch(5)
    from itertools import islice

    from abench.data.texts import texts as documents

    given = list(islice(documents(data, "held_out", start=0, seed=0, epoch=0), 40))
    assert torch.equal(text_rows(lm, given, 64)[:5], expected)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("one text", "a list of texts, not a single string"),
        ([], "none of the 0 texts has tokens"),
        (["", ""], "none of the 2 texts has tokens"),
    ],
)
def test_texts_that_cannot_be_read_are_a_sentence(given: Any, sentence: str, lm: LanguageModel) -> None:
    with pytest.raises(UserError, match=sentence):
        firing_rates(lm, random_sae(), given, site=SITE)


def test_activations_of_texts(lm: LanguageModel) -> None:
    x = activations_of(lm, texts(), SITE, context=48)
    rows = text_rows(lm, texts(), 48)
    assert x.shape == (int(ordinary(rows, lm).sum()), lm.d_model)
    torch.testing.assert_close(x[:20], lm.residual(rows[:1], SITE)[0, 1:21], rtol=1e-4, atol=1e-4)


# One SAE and texts


def test_rates_and_contexts_of_texts_are_those_of_their_rows(lm: LanguageModel) -> None:
    sae = random_sae()
    rows = text_rows(lm, texts(), 40)
    for each in (sae, Bare(sae)):
        rates = firing_rates(lm, each, texts(), site=SITE, context=40)
        expected = firing_rates(lm, rows, site=SITE, saes=[sae])(sae)
        torch.testing.assert_close(rates.positive, expected.positive)
        found = top_contexts(lm, each, texts(), site=SITE, context=40, latents=[3, 9, 50], number=2)
        by_rows = top_contexts(lm, rows, site=SITE, saes=[sae], latents=lambda _: [3, 9, 50], number=2)(sae)
        assert repr(found) == repr(by_rows)
        assert [repr(each) for each in found.latents] == [repr(each) for each in by_rows.latents]


def test_all_latents_are_searched_unless_some_are_named(lm: LanguageModel) -> None:
    rates = firing_rates(lm, random_sae(), texts(), site=SITE)
    found = top_contexts(lm, random_sae(), texts(), site=SITE)
    fire = (rates.positive + rates.negative) > 0
    assert [each.latent for each in found.latents] == fire.nonzero().flatten().tolist()
    with pytest.raises(UserError, match="no latent 256"):
        top_contexts(lm, random_sae(), texts(), site=SITE, latents=[256])
    silent = top_contexts(lm, random_sae(), texts(), site=SITE, latents=[1])
    with pytest.raises(UserError, match="latent 2 was not searched or does not fire"):
        silent.of(2)


def test_site_and_context_come_from_the_configuration(lm: LanguageModel, tmp_path: Path) -> None:
    stated = {"hook_name": "blocks.1.hook_mlp_out", "context_size": 24}
    save_sae(random_sae(), str(tmp_path), scale=1.0, metadata=stated)
    sae = load_sae(str(tmp_path))
    rates = firing_rates("tiny", sae, texts())
    expected = firing_rates(lm, text_rows(lm, texts(), 24), site="blocks.1.hook_mlp_out", saes=[sae])(sae)
    torch.testing.assert_close(rates.positive, expected.positive)
    with pytest.raises(UserError, match=r"give site='blocks\.L\.hook_resid_post'"):
        firing_rates(lm, Bare(sae), texts())
    with pytest.raises(UserError, match="activations of width 64, but those of tiny are of width 128"):
        top_contexts(lm, random_sae(d_in=64), texts(), site=SITE)


def test_weights_with_gradients_do_no_harm(lm: LanguageModel) -> None:
    sae = random_sae().requires_grad_(True)
    for each in (sae, Bare(sae)):
        firing_rates(lm, each, texts(), site=SITE)
        top_contexts(lm, each, texts(), site=SITE, latents=[1, 2])
        abench.pool(lm, texts(), site=SITE, saes=[each], context=32)  # type: ignore[list-item]
        with steered(lm, SITE, ClampLatent(each, 3, 5.0)):  # type: ignore[arg-type]
            assert lm.generate(["The food"], max_new_tokens=2)


# Models


def test_a_model_by_name_folder_or_object(lm: LanguageModel) -> None:
    same = [
        LanguageModel.load(str(MODEL_DIR), eos_after_documents=True),
        LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True),
        LanguageModel.load(lm.model, lm.tokenizer, name="tiny", eos_after_documents=True),
    ]
    tokens = torch.arange(5, 30)[None]
    for other in same:
        assert torch.equal(other.logits(tokens), lm.logits(tokens))
        assert other.packed([7]) == lm.packed([7])
    assert lm.eos_after_documents
    assert LanguageModel.load(lm.model, lm.tokenizer).name == type(lm.model).__name__
    assert repr(lm) == "LanguageModel(tiny: 4 blocks, d_model 128, float32 on cpu)"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("tinny", "unknown model 'tinny'; did you mean 'tiny'"),
        ("synthetic", "reads no text: use abench.SyntheticModel"),
        ("./nowhere", "does not exist"),
        (7, "with its tokenizer, not a int alone"),
    ],
)
def test_what_is_no_model_is_a_sentence(source: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        LanguageModel.load(source)


def test_steering_yields_the_model(lm: LanguageModel) -> None:
    with steered("tiny", SITE, None) as opened:
        assert opened.generate(["The food was"], max_new_tokens=3) == lm.generate(
            ["The food was"], max_new_tokens=3
        )


def test_paths_may_be_strings(lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert abench.load_file(str(tmp_path / "texts.txt"))["text"] == ["one", "two"]
    kept = FolderKept(str(tmp_path / "kept"))
    assert kept.file_of({}).parent.parent == tmp_path / "kept"


# Results


def test_a_tensor_trains_what_a_list_of_it_trains() -> None:
    x = torch.randn(2048, 16, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"variants": ["abstopk"], "k": [2], "width": 32, "steps": 6, "batch_size": 256}
    one, other = abench.train(x, **options)[0], abench.train([x[:1000], x[1000:]], **options)[0]
    assert torch.equal(one.sae.W_dec, other.sae.W_dec)
    assert re.fullmatch(r"TrainedSAE\(abstopk, k 2, seed 0: MSE [\d.e-]+\)", repr(one))


def test_results_are_one_line(lm: LanguageModel) -> None:
    sae, good, bad = random_sae(), texts(4), texts(8)[4:]
    pooled = abench.pool(lm, good, site=SITE, saes=[sae], context=32)
    contexts = top_contexts(lm, sae, texts(), site=SITE)
    differences = abench.latent_differences(lm, [sae], good, bad, SITE, pooling="mean")
    results = [
        pooled,
        pooled.codes,
        pooled.codes(sae),
        firing_rates(lm, sae, texts(), site=SITE),
        contexts,
        contexts.latents[0],
        contexts.latents[0].positive,
        abench.reconstruct(sae, torch.randn(5, 128)),
        abench.SplitSAE(sae),
        differences,
        differences(sae),
        abench.mean_difference(lm, good, bad, SITE, pooling="mean"),
        ClampLatent(sae, 3, 2.0),
        abench.ScaleLatent(sae, 3, 2.0),
        abench.AblateLatents(sae, [3, 5]),
        abench.AddDirection(torch.ones(128), 2.0),
        abench.AblateDirection(torch.ones(128)),
        abench.SyntheticSample(torch.ones(3, 5), torch.ones(3, 128)),
        abench.FileRows([{"text": "a"}]),
    ]
    for result in results:
        assert "\n" not in repr(result)
        assert len(repr(result)) < 1000
