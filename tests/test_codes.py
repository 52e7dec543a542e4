"""Pooled codes and firing rates against the definition, text by text, on the bundled model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from signed import WideSAE, flipped, random_sae

from abench import (
    LanguageModel,
    SplitSAE,
    UserError,
    firing_rates,
    ordinary,
    pool,
    residual_codes,
    right_padded,
    sparse_codes,
    token_rows,
)
from abench.conformance.rewritten import normalising
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.2.hook_resid_post"
TEXTS = [d.text for d in World().biographies("test", 40)] + ["the cat", "a"]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def by_hand(lm: LanguageModel, sae: Any, text: str, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean residual stream and mean codes of one text, from a forward of its own without padding."""
    ids = [lm.bos_id, *lm.token_ids([text])[0]][:context]
    x = lm.residual(torch.tensor([ids]), SITE)[0, 1:]
    return x.mean(0), residual_codes(sae, x).mean(0)


WAYS = ["none", "layer_norm", "constant_norm_rescale"]


@pytest.mark.parametrize(
    ("variant", "way"),
    [
        *((variant, "none") for variant in ("abstopk", "topk", "relu")),
        *(("abstopk", way) for way in WAYS[1:]),
    ],
)
@pytest.mark.parametrize("context", [16, 128])
def test_pooled_codes_are_the_means_over_each_texts_own_tokens(
    lm: LanguageModel, variant: str, context: int, way: str
) -> None:
    sae = normalising(random_sae(variant), way)
    pooled = pool(lm, TEXTS, site=SITE, saes=[sae], context=context)
    codes = pooled.codes(sae).columns(slice(None))
    for row, text in enumerate(TEXTS):
        residual, mean = by_hand(lm, sae, text, context)
        torch.testing.assert_close(pooled.residual[row], residual, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(codes[row], mean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("k", [8, 200])
def test_the_split_view_pools_each_pole_by_itself(lm: LanguageModel, k: int) -> None:
    sae = random_sae(k=k)
    wide = WideSAE(sae)
    pooled = pool(lm, TEXTS, site=SITE, saes=[sae, wide], context=64)
    split, explicit = pooled.codes(SplitSAE(sae)), pooled.codes(wide)
    assert explicit.negative is None
    assert abs(split.positive - explicit.positive).max() < 1e-6
    native = pooled.codes(sae)
    positive, negative = native.means()
    torch.testing.assert_close(torch.cat([positive, negative]), explicit.means()[0])


def test_flipping_latents_swaps_their_poles(lm: LanguageModel) -> None:
    sae = random_sae()
    other = flipped(sae)
    pooled = pool(lm, TEXTS, site=SITE, saes=[sae, other], context=64)
    first, second = pooled.codes(sae), pooled.codes(other)
    sign = torch.sign((sae.W_dec * other.W_dec).sum(-1))
    torch.testing.assert_close(first.columns(slice(None)), second.columns(slice(None)) * sign)
    a, b = (torch.stack(codes.means()) for codes in (first, second))
    torch.testing.assert_close(a.sum(0), b.sum(0))
    torch.testing.assert_close(a[:, sign < 0], b.flip(0)[:, sign < 0])


def test_columns_and_means_of_some_texts(lm: LanguageModel) -> None:
    sae = random_sae()
    codes = pool(lm, TEXTS, site=SITE, saes=[sae], context=64).codes(sae)
    everything = codes.columns(slice(None))
    torch.testing.assert_close(codes.columns([5, 3, 200], [1, 0]), everything[[1, 0]][:, [5, 3, 200]])
    positive, negative = codes.means([4, 7])
    torch.testing.assert_close(
        (positive - negative).float(), everything[[4, 7]].mean(0), atol=1e-6, rtol=1e-4
    )


def test_an_sae_that_fails_costs_only_itself(lm: LanguageModel) -> None:
    good, narrow = random_sae("topk"), random_sae("topk", d_in=64)
    saes = [narrow, good]
    pooled = pool(lm, TEXTS[:4], site=SITE, saes=saes, context=64)
    assert pooled.codes(good).latents == 256
    with pytest.raises(RuntimeError, match="128"):
        pooled.codes(narrow)
    rates = firing_rates(lm, torch.tensor([[5] * 16]), site=SITE, saes=saes)
    assert len(rates(good).positive) == 256
    with pytest.raises(RuntimeError, match="128"):
        rates(narrow)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", ["abstopk", "topk", "relu"])
def test_sparse_codes_are_those_of_the_encoder(variant: str, way: str) -> None:
    sae = normalising(random_sae(variant), way)
    with torch.no_grad():
        sae.W_dec *= torch.linspace(0.5, 2, len(sae.W_dec))[:, None]
    x = torch.randn(300, int(sae.cfg.d_in), generator=torch.Generator().manual_seed(0))
    for seen in (sae, SplitSAE(sae)):
        codes, expected = sparse_codes(seen, x), residual_codes(seen, x)
        torch.testing.assert_close(torch.from_numpy(codes.toarray()), expected, rtol=1e-6, atol=1e-7)
        assert codes.nnz == int((expected != 0).sum())


def test_a_text_without_tokens_is_an_error_that_names_it(lm: LanguageModel) -> None:
    with pytest.raises(UserError, match="text 1 of 2 has no tokens: ''"):
        pool(lm, ["the cat", ""], site=SITE, saes=[], context=64)


def test_a_text_of_special_tokens_alone_is_an_error_that_names_it(lm: LanguageModel) -> None:
    """Its mean would be taken over nothing, and one NaN would reach every mean that it is part of."""
    with pytest.raises(UserError, match="text 1 of 3 has only special tokens among its first 2: '<eos>'"):
        pool(lm, ["the cat", "<eos>", "a"], site=SITE, saes=[random_sae()], context=64)
    with pytest.raises(UserError, match="text 0 of 1 has only special tokens among its first 1: 'the cat'"):
        pool(lm, ["the cat"], site=SITE, saes=[random_sae()], context=1)


@pytest.mark.parametrize("k", [8, 200])
def test_firing_rates_of_each_pole(lm: LanguageModel, k: int) -> None:
    sae = random_sae(k=k)
    tokens = torch.tensor([ids[:20] for ids in lm.token_ids([t for t in TEXTS if len(t.split()) > 22])])
    rates = firing_rates(lm, tokens, site=SITE, saes=[sae])
    z = sae.encode(lm.residual(tokens, SITE)[ordinary(tokens, lm)])
    torch.testing.assert_close(rates(sae).positive, (z > 0).double().mean(0))
    torch.testing.assert_close(rates(sae).negative, (z < 0).double().mean(0))
    split = rates(SplitSAE(sae))
    torch.testing.assert_close(
        split.positive, torch.cat([(z > 0).double().mean(0), (z < 0).double().mean(0)])
    )
    assert not split.negative.any()


@pytest.mark.parametrize("architecture", ["pythia-70m", "gpt2", "gemma-2-2b", "qwen3-4b", "llama-3.1-8b"])
def test_padding_on_the_right_changes_nothing(model_folder: Callable[[str], Path], architecture: str) -> None:
    lm = LanguageModel.load(model_folder(architecture), name=architecture)
    rows = token_rows(lm, ["a short text", "a text that is somewhat longer than that one", "word"], 12)
    for numbers, tokens, mask in right_padded(rows, lm):
        residual = lm.residual(tokens, SITE)
        for place, number in enumerate(numbers):
            alone = torch.tensor([rows[number]])
            expected = lm.residual(alone, SITE)[0][ordinary(alone, lm)[0]]
            torch.testing.assert_close(residual[place][mask[place]], expected, atol=1e-5, rtol=1e-4)


def test_a_split_sae_is_the_same_function(lm: LanguageModel) -> None:
    sae = random_sae()
    split = SplitSAE(sae)
    x = torch.randn(50, 128, generator=torch.Generator().manual_seed(1))
    codes = split.encode(x)
    assert bool((codes >= 0).all())
    assert int((codes > 0).sum()) == int((sae.encode(x) != 0).sum())
    torch.testing.assert_close(split(x), sae.decode(sae.encode(x)))
    torch.testing.assert_close(codes @ split.W_dec + split.b_dec, split(x))
    assert split.W_enc.shape == (128, 512)
    assert (split.cfg.d_sae, sae.cfg.d_sae) == (512, 256)
