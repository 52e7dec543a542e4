"""Directions and latents that tell two lists of prompts apart, against means written out."""

from typing import Any, Literal

import pytest
import torch
from signed import WideSAE, flipped, permuted, random_sae
from steering_saes import exported
from torch import Tensor

from abench import (
    AblateDirection,
    ClampLatent,
    LanguageModel,
    LatentDifferences,
    SplitSAE,
    UserError,
    latent_differences,
    mean_difference,
    pool,
    residual_codes,
    steered,
)
from abench.conformance.rewritten import normalising
from abench.tinyworld import MODEL_DIR, World

Pooling = Literal["mean", "last"]
POOLINGS: tuple[Pooling, ...] = ("mean", "last")
SITE = "blocks.2.hook_resid_post"
REVIEWS = list(World().reviews("train", 60))
GOOD, BAD = (
    [d.text for d in REVIEWS if d.attributes["sentiment"] == pole][:8] for pole in ("positive", "negative")
)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def residuals(lm: LanguageModel, prompt: str) -> Tensor:
    """[tokens, d_model] of a prompt by itself, BOS left out."""
    return lm.residual(torch.tensor([[lm.bos_id, *lm.token_ids([prompt])[0]]]), SITE)[0, 1:]


def pooled(values: Tensor, pooling: Pooling) -> Tensor:
    return values.mean(0) if pooling == "mean" else values[-1]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_direction_is_the_difference_of_means(pooling: Pooling, lm: LanguageModel) -> None:
    concept = mean_difference(lm, GOOD, BAD, SITE, pooling=pooling)
    good, bad = (
        torch.stack([pooled(residuals(lm, prompt), pooling) for prompt in side]).mean(0)
        for side in (GOOD, BAD)
    )
    torch.testing.assert_close(concept.direction * concept.norm, good - bad, rtol=1e-4, atol=1e-3)
    assert float(concept.direction.norm()) == pytest.approx(1, abs=1e-6)
    lengths = torch.cat([residuals(lm, prompt).norm(dim=-1) for prompt in (*GOOD, *BAD)])
    assert concept.activation_norm == pytest.approx(float(lengths.mean()), rel=1e-5)


def test_mean_pooling_is_that_of_the_tasks(lm: LanguageModel) -> None:
    means = pool(lm, [*GOOD, *BAD], site=SITE, saes=[], context=256).residual
    concept = mean_difference(lm, GOOD, BAD, SITE, pooling="mean")
    expected = means[: len(GOOD)].mean(0) - means[len(GOOD) :].mean(0)
    torch.testing.assert_close(concept.direction * concept.norm, expected, rtol=1e-4, atol=1e-3)


def test_the_other_way_round(lm: LanguageModel) -> None:
    there = mean_difference(lm, GOOD, BAD, SITE, pooling="last")
    back = mean_difference(lm, BAD[::-1], GOOD[::-1], SITE, pooling="last")
    torch.testing.assert_close(there.direction, -back.direction)
    assert there.norm == pytest.approx(back.norm)


def test_ablating_the_direction_makes_the_means_equal(lm: LanguageModel) -> None:
    concept = mean_difference(lm, GOOD, BAD, SITE, pooling="mean")
    with steered(lm, SITE, AblateDirection(concept.direction)):
        assert mean_difference(lm, GOOD, BAD, SITE, pooling="mean").norm < 1e-3 * concept.norm


def written_out(lm: LanguageModel, sae: Any, pooling: Pooling) -> Tensor:
    """Difference of mean pooled codes in units of the residual stream, prompt by prompt."""
    good, bad = (
        torch.stack([pooled(residual_codes(sae, residuals(lm, prompt)), pooling) for prompt in side]).mean(0)
        for side in (GOOD, BAD)
    )
    return good - bad


@pytest.mark.parametrize("pooling", POOLINGS)
def test_differences_of_latents(pooling: Pooling, lm: LanguageModel) -> None:
    saes = [exported(variant) for variant in ("abstopk", "topk", "jumprelu")] + [random_sae("abstopk")]
    saes += [normalising(saes[0], way) for way in ("layer_norm", "constant_norm_rescale")]
    saes[3], saes[-1] = saes[-1], saes[3]
    # Without an effect on its codes: the latent that differs most moves the residual stream least.
    saes[-1].cfg.rescale_acts_by_decoder_norm = False
    most = int(written_out(lm, saes[-1], pooling).abs().argmax())
    with torch.no_grad():
        saes[-1].W_dec[most] *= 1e-3
    differences = latent_differences(lm, saes, GOOD, BAD, SITE, pooling=pooling)
    for sae in saes:
        found, expected = differences(sae), written_out(lm, sae, pooling)
        torch.testing.assert_close(found.values.float(), expected, rtol=1e-3, atol=1e-3)
        assert found.latent == int(expected.abs().argmax())
        assert found.sign == int(expected[found.latent].sign())
    assert differences(saes[-1]).latent != most


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_same_latent_however_latents_are_turned_and_ordered(pooling: Pooling, lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    others = [flipped(sae), permuted(sae), flipped(permuted(sae, 1), 1)]
    differences = latent_differences(lm, [sae, *others], GOOD, BAD, SITE, pooling=pooling)

    def pole(each: Any) -> Tensor:
        found: LatentDifferences = differences(each)
        row: Tensor = each.W_dec[found.latent] * found.sign
        return row

    for other in others:
        assert torch.equal(pole(other), pole(sae))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_split_view_is_the_wide_sae(pooling: Pooling, lm: LanguageModel) -> None:
    sae = exported("abstopk")
    found = latent_differences(lm, [sae], GOOD, BAD, SITE, pooling=pooling)(SplitSAE(sae))
    expected = written_out(lm, WideSAE(sae), pooling)
    torch.testing.assert_close(found.values.float(), expected, rtol=1e-3, atol=1e-3)
    assert found.latent == int(expected.abs().argmax())
    by_view = latent_differences(lm, [SplitSAE(sae)], GOOD, BAD, SITE, pooling=pooling)(SplitSAE(sae))
    assert torch.equal(by_view.values, found.values)


def test_clamping_the_latent_found_moves_along_the_concept(lm: LanguageModel) -> None:
    sae = exported("abstopk")
    concept = mean_difference(lm, GOOD, BAD, SITE, pooling="mean")
    found = latent_differences(lm, [sae], GOOD, BAD, SITE, pooling="mean")(sae)
    h = residuals(lm, GOOD[0])[None]
    up, down = (ClampLatent(sae, found.latent, pole * found.sign * 50.0)(h) for pole in (1, -1))
    assert float(((up - down) @ concept.direction).mean()) > 0


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_sae_that_fails_costs_only_its_own_result(pooling: Pooling, lm: LanguageModel) -> None:
    good, wrong = exported("abstopk"), random_sae("abstopk", d_in=64)
    differences = latent_differences(lm, [wrong, good], GOOD, BAD, SITE, pooling=pooling)
    assert differences(good).sign in (1, -1)
    with pytest.raises(RuntimeError):
        differences(wrong)


def test_mistakes_are_sentences(lm: LanguageModel) -> None:
    sae = exported("abstopk")
    for positive, negative, reason in (
        (GOOD[:1], BAD, "at least 2 positive prompts, not 1"),
        (GOOD, [], "at least 2 negative prompts, not 0"),
        (GOOD, [BAD[0], ""], "negative prompt 2 of 2 has no tokens"),
        (["<bos>", GOOD[0]], BAD, "positive prompt 1 of 2 has no tokens"),
        (GOOD, [BAD[0], "cat " * 300], "is 256"),
    ):
        with pytest.raises(UserError, match=reason):
            mean_difference(lm, positive, negative, SITE, pooling="mean")
        with pytest.raises(UserError, match=reason):
            latent_differences(lm, [sae], positive, negative, SITE, pooling="last")
    with pytest.raises(UserError, match="do not differ"):
        mean_difference(lm, GOOD, GOOD, SITE, pooling="mean")
