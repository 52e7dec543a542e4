"""SAEs of every built-in class, seen as objects of an unknown class, get what the known class gets."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from abench.tasks.absorption import Absorption
from abench.tasks.core import Core
from abench.tasks.scr import SCR
from abench.tasks.sparse_probing import SparseProbing
from abench.tasks.tpp import TPP
from abench.tasks.unlearning import Unlearning
from steering_saes import VARIANTS, seen
from torch import Tensor

from abench import (
    AblateLatents,
    ClampLatent,
    LanguageModel,
    ScaleLatent,
    Skip,
    SplitSAE,
    Task,
    UserError,
    as_sae,
    firing_rates,
    from_residual_units,
    latent_codes,
    latent_differences,
    latent_directions,
    pool,
    reconstruct,
    residual_codes,
    rows_at_once,
    sparse_codes,
    top_contexts,
)
from abench.conformance.bench import Bench
from abench.conformance.rewritten import Bare
from abench.tinyworld import World

SITE = "blocks.2.hook_resid_post"
WAYS = ("plain", "layer_norm", "rescaled")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load("tiny")


def texts(count: int = 12) -> list[str]:
    return [document.text for document in World().reviews("train", count)]


def activations(lm: LanguageModel) -> Tensor:
    return lm.residual(torch.arange(5, 205)[None], SITE)[0].clone()


def both(variant: str, how: str) -> tuple[Any, Any]:
    known = seen(variant, how)
    return known, Bare(known)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_codes_reconstructions_and_interventions(variant: str, how: str, lm: LanguageModel) -> None:
    """Of the object itself, not only of what `as_sae` makes of it."""
    known, bare = both(variant, how)
    x = activations(lm)
    latent = int(residual_codes(known, x).abs().sum(0).argmax())
    found, expected = reconstruct(bare, x), reconstruct(known, x)
    torch.testing.assert_close(found.x_hat, expected.x_hat, **CLOSE)
    assert torch.equal(found.positive, expected.positive)
    assert torch.equal(found.negative, expected.negative)
    asked: list[Callable[[Any], Any]] = [
        lambda sae: residual_codes(sae, x),
        lambda sae: torch.from_numpy(sparse_codes(sae, x).toarray()),
        lambda sae: latent_codes(sae, x, latent),
        lambda sae: from_residual_units(sae, x, residual_codes(sae, x)),
        latent_directions,
        rows_at_once,
        lambda sae: SplitSAE(sae).encode(x),
        lambda sae: torch.from_numpy(sparse_codes(SplitSAE(sae), x).toarray()),
        lambda sae: latent_codes(SplitSAE(sae), x, latent),
        lambda sae: ClampLatent(sae, latent, 20.0)(x[None]),
        lambda sae: ClampLatent(sae, latent, 20.0, keep_error=False)(x[None]),
        lambda sae: ScaleLatent(sae, latent, 2.0)(x[None]),
        lambda sae: AblateLatents(sae, [latent, 3])(x[None]),
    ]
    for ask in asked:
        torch.testing.assert_close(ask(bare), ask(known), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("how", WAYS)
def test_what_one_pass_gives_for_all_saes(how: str, lm: LanguageModel) -> None:
    pairs = [both(variant, how) for variant in VARIANTS]
    saes = [sae for pair in pairs for sae in pair]
    rows = torch.arange(5, 261).view(4, 64)
    pooled = pool(lm, texts(), site=SITE, saes=saes, context=48)
    rates = firing_rates(lm, rows, site=SITE, saes=saes)
    contexts = top_contexts(lm, rows, site=SITE, saes=saes, latents=lambda _: range(40), number=3)
    differ = {
        pooling: latent_differences(lm, saes, texts(6), texts(12)[6:], SITE, pooling=pooling)
        for pooling in ("mean", "last")
    }
    for known, bare in pairs:
        ours, theirs = pooled.codes(bare), pooled.codes(known)
        for one, other in zip(ours.means(), theirs.means(), strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
        assert (ours.negative is None) == (theirs.negative is None)
        torch.testing.assert_close(rates(bare).positive, rates(known).positive)
        torch.testing.assert_close(rates(bare).negative, rates(known).negative)
        for of_each in differ.values():
            torch.testing.assert_close(of_each(bare).values, of_each(known).values, rtol=1e-5, atol=1e-4)
        mine, top = contexts(bare), contexts(known)
        assert (mine.alive, mine.signed, mine.tokens) == (top.alive, top.signed, top.tokens)
        assert mine.negative_known == top.signed
        assert len(mine.latents) == len(top.latents)
        for a, b in zip(mine.latents, top.latents, strict=True):
            assert [each.position for each in a.positive] == [each.position for each in b.positive]
            assert [each.value for each in a.positive] == pytest.approx([each.value for each in b.positive])
            assert len(a.negative) == (len(b.negative) if top.signed else 0)


def test_an_object_that_is_no_sae_costs_only_itself(lm: LanguageModel) -> None:
    class Nothing:
        pass

    known, bare = both("abstopk", "plain")
    nothing = Nothing()
    pooled = pool(lm, texts(), site=SITE, saes=[nothing, bare], context=48)  # type: ignore[list-item]
    assert pooled.codes(bare).latents == known.cfg.d_sae
    with pytest.raises(UserError, match="Nothing is not an SAE: it has no encode"):
        pooled.codes(nothing)  # type: ignore[arg-type]


# Tasks

SMALL = [Core(), SparseProbing(train_texts=80, test_texts=40), SCR(), TPP()]
# Latents are clamped so far that it shows.
SLOW = [Absorption(), Unlearning(retain_thresholds=(1.0,), n_features=(20,), multipliers=(1000,))]


EACH_RULE = ("relu", "gated", "absjumprelu", "batchabstopk", "topk", "multistep")
"""One variant for each way to encode in abench/latents/encoders.py, and one that it does not list."""


@pytest.mark.parametrize("task", [*SMALL, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def test_scores_are_those_of_the_known_class(task: Task) -> None:
    bench = Bench(limit=200 if task in SLOW else 40)
    variants = VARIANTS if isinstance(task, Core) else EACH_RULE
    saes: dict[str, Any] = {}
    for number, variant in enumerate(variants):
        saes[variant], bare = both(variant, WAYS[number % len(WAYS)])
        saes[f"bare {variant}"] = as_sae(bare)
    scores = bench.scores(task, saes, dict.fromkeys(saes, "native"))
    assert len({tuple(scores[variant].values()) for variant in variants}) > 1
    for variant in variants:
        assert scores[f"bare {variant}"] == pytest.approx(scores[variant], rel=1e-4, abs=1e-4), variant


def test_bidirectionality_skips_an_sae_whose_negative_side_cannot_be_seen() -> None:
    from abench.tasks.bidirectionality import Bidirectionality

    bench = Bench(limit=20)
    task = Bidirectionality(latents=5, validation=0)
    signed, plain = (as_sae(both(variant, "plain")[1]) for variant in ("abstopk", "topk"))
    assert bench.scores(task, {"signed": signed}, {"signed": "native"})["signed"]
    with pytest.raises(Skip, match="no negative codes, and its class does not show the pre-activations"):
        bench.scores(task, {"plain": plain}, {"plain": "native"})
