"""Codes of single latents are those of the whole encoder, for every variant and however the SAE is seen."""

from typing import Any

import pytest
import torch
from signed import random_sae
from steering_saes import D_IN, HOW, VARIANTS, WIDTH, K, exported, seen
from torch import Tensor

from abench import SplitSAE, UserError, latent_codes, residual_codes
from abench.conformance.rewritten import normalising
from abench.latents.few_latents import codes_of

LATENTS = (0, 5, 31, 32, 100, WIDTH - 1)


def activations(n: int = 400, seed: int = 0) -> Tensor:
    return 2 * torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed)) + 0.2


def same(ours: Tensor, theirs: Tensor) -> None:
    assert torch.equal(ours != 0, theirs != 0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("variant", VARIANTS)
def test_codes_of_single_latents_are_those_of_the_whole_encoder(variant: str, how: str) -> None:
    sae, x = seen(variant, how), activations()
    codes, lengths = sae.encode(x), residual_codes(sae, x)
    latents = (*LATENTS, *((WIDTH, WIDTH + 31, 2 * WIDTH - 1) if "split" in how else ()))
    assert (codes[:, list(latents)] != 0).any()
    for latent in latents:
        same(latent_codes(sae, x, latent), lengths[:, latent])
    same(codes_of(sae, x, latents), codes[:, list(latents)])


def encoded_rows(sae: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the number of rows of every call of the SAE's own encoder."""
    calls: list[int] = []
    encode = type(sae).encode

    def counting(self: Any, x: Tensor) -> Tensor:
        calls.append(len(x))
        return encode(self, x)

    monkeypatch.setattr(type(sae), "encode", counting)
    return calls


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
def test_few_tokens_meet_all_latents_and_hardly_any_the_encoder(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae, x = exported(variant, 2048), activations(2000)
    products: list[tuple[int, int]] = []
    plain = torch.addmm

    def counting(bias: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        products.append((len(rows), columns.shape[1]))
        return plain(bias, rows, columns)

    monkeypatch.setattr(torch, "addmm", counting)
    calls = encoded_rows(sae, monkeypatch)
    latent_codes(sae, x, 1500)
    whole = [rows for rows, columns in products if columns == 2048]
    assert 0 < sum(whole) < 200
    assert sum(calls) < 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_few_tokens_at_a_time(variant: str) -> None:
    sae, x = exported(variant, 1024), activations(60)
    codes = sae.encode(x)
    for latent in (3, int((codes != 0).sum(0).argmax())):
        same(torch.cat([latent_codes(sae, part, latent) for part in x.split(7)]), codes[:, latent])


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
def test_for_many_latents_all_tokens_are_encoded_once(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x = exported(variant, 1024), activations(60)
    expected = sae.encode(x)[:, 3:23]
    calls = encoded_rows(sae, monkeypatch)
    same(codes_of(sae, x, range(3, 23)), expected)
    assert calls == [60]


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
def test_equal_latents_are_left_to_the_encoder(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x = random_sae(variant, d_in=D_IN, width=1024, k=K), activations(1000)
    with torch.no_grad():
        sae.W_enc[:, 500:] = sae.W_enc[:, :1]
        sae.W_dec[500:] = sae.W_dec[:1]
    codes = sae.encode(x)
    calls = encoded_rows(sae, monkeypatch)
    for latent in (0, 500, 1023):
        same(latent_codes(sae, x, latent), codes[:, latent])
    assert sum(calls) > 0


@pytest.mark.parametrize("variant", ["relu", "gated", "jumprelu", "batchtopk", "absjumprelu", "batchabstopk"])
def test_latents_by_themselves_need_no_encoder(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = exported(variant)
    calls = encoded_rows(sae, monkeypatch)
    latent_codes(sae, activations(), 7)
    assert calls == []


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
def test_a_k_too_large_to_screen_for(variant: str) -> None:
    sae, x = random_sae(variant, d_in=D_IN, width=64, k=40), activations()
    for latent in (0, 63):
        same(latent_codes(sae, x, latent), sae.encode(x)[:, latent])


@pytest.mark.parametrize("variant", ["topk", "abstopk", "signedtopk"])
def test_latents_ranked_by_decoder_norm(variant: str) -> None:
    sae, x = random_sae(variant, d_in=D_IN, width=1024, k=K), activations()
    with torch.no_grad():
        sae.W_dec *= torch.linspace(0.1, 3, 1024)[:, None]
    assert sae.cfg.rescale_acts_by_decoder_norm
    codes = sae.encode(x)
    for latent in (0, 100, 900, 1000):
        same(latent_codes(sae, x, latent), codes[:, latent])


@pytest.mark.parametrize("variant", ["topk", "abstopk"])
def test_tokens_without_any_spread_and_equal_latents(variant: str) -> None:
    sae = exported(variant, 1024)
    x = torch.cat([torch.zeros(3, D_IN), activations(5)])
    twins = random_sae(variant, d_in=D_IN, width=1024, k=K)
    with torch.no_grad():
        twins.W_enc[:, 500:] = twins.W_enc[:, :1]
        twins.W_dec[500:] = twins.W_dec[:1]
    for each in (sae, normalising(sae, "layer_norm"), twins):
        codes = residual_codes(each, x)
        for latent in (0, 3, 499, 500, 1023):
            same(latent_codes(each, x, latent), codes[:, latent])


def test_no_tokens_at_all() -> None:
    for variant in VARIANTS:
        assert latent_codes(exported(variant), torch.zeros(0, D_IN), 3).shape == (0,)


@pytest.mark.parametrize("variant", ["abstopk", "batchabstopk"])
def test_bfloat16(variant: str) -> None:
    sae = random_sae(variant, d_in=D_IN, width=1024, k=K) if variant == "abstopk" else exported(variant)
    sae, x = type(sae)(sae.cfg).to(dtype=torch.bfloat16), activations()
    codes = latent_codes(sae, x, 700 % sae.cfg.d_sae)
    assert codes.dtype == torch.bfloat16
    theirs = sae.encode(x)[:, 700 % sae.cfg.d_sae]
    assert ((codes != 0) != (theirs != 0)).float().mean() < 0.01


def test_gradients_reach_the_activations() -> None:
    for variant in ("abstopk", "jumprelu", "gated"):
        sae, x = exported(variant), activations().requires_grad_()
        (ours,) = torch.autograd.grad(latent_codes(sae, x, 5).sum(), x)
        (theirs,) = torch.autograd.grad(sae.encode(x)[:, 5].sum(), x)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_latent_the_sae_lacks() -> None:
    for sae, latent in ((exported("abstopk"), WIDTH), (SplitSAE(exported("abstopk")), -1)):
        with pytest.raises(UserError, match=f"no latent {latent}"):
            latent_codes(sae, activations(), latent)
