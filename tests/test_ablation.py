"""Probes after ablation: pooled codes and linearity against ablating the latents token by token."""

from typing import Any

import pytest
import torch
from abench.tasks._shared.ablation import NUMBERS, Contrasts, Probed, check_linear, probed, strongest
from abench.tasks._shared.linear_probes import ProbeQuestion, ProbeSettings
from probe_oracle import activations, scr_and_tpp
from signed import WideSAE, flipped, random_sae
from torch import Tensor

from abench import Context, LanguageModel, Skip, SplitSAE
from abench.config import DataSpec, EvaluationSpec
from abench.conformance.rewritten import normalising
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.2.hook_resid_post"
TRAIN = [d.text for d in World().reviews("train", 60)]
TEST = [d.text for d in World().reviews("test", 39)] + ["the cat"]
SETTINGS = ProbeSettings(probe_epochs=1, context=24)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


def context_of(*saes: Any) -> Context:
    return Context(SITE, EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), 128, saes=saes)


def halves(texts: list[str]) -> list[ProbeQuestion]:
    rows = torch.arange(len(texts))
    return [
        ProbeQuestion(rows[::2], rows[1::2]),
        ProbeQuestion(rows[: len(rows) // 2], rows[len(rows) // 2 :]),
    ]


def probed_with(lm: LanguageModel, *saes: Any) -> Probed:
    with torch.no_grad():
        return probed(lm, context_of(*saes), (TRAIN, halves(TRAIN)), (TEST, halves(TEST)), SETTINGS, [1, 2])


SAES = {
    **{name: random_sae(name) for name in ("topk", "abstopk", "jumprelu", "relu", "gated")},
    "standardising": normalising(random_sae("abstopk"), "layer_norm"),
    "rescaling": normalising(random_sae("topk"), "constant_norm_rescale"),
    "abstopk, split": SplitSAE(random_sae("abstopk")),
    "standardising, split": SplitSAE(normalising(random_sae("abstopk"), "layer_norm")),
}


def token_by_token(lm: LanguageModel, sae: Any, probes: Any, latents: Tensor, texts: list[str]) -> Tensor:
    """Logits [texts, probes] of x − decode(z) + decode(z ablated), averaged over each text's own tokens."""
    logits = []
    for text in texts:
        ids = [lm.bos_id, *lm.token_ids([text])[0]][: SETTINGS.context]
        x = lm.residual(torch.tensor([ids]), SITE)[0, 1:].clone()
        error = x - sae.decode(sae.encode(x))
        z = sae.encode(x).clone()
        z[:, latents] = 0
        logits.append(probes.logits((sae.decode(z) + error).mean(0)[None]))
    return torch.cat(logits)


@pytest.mark.parametrize("name", SAES)
def test_pooled_ablation_is_ablation_token_by_token(name: str, lm: LanguageModel) -> None:
    sae = SAES[name]
    ours = probed_with(lm, sae.base if isinstance(sae, SplitSAE) else sae)
    use, directions = ours.use(sae), ours.directions(sae)
    latents = torch.randperm(sae.cfg.d_sae, generator=torch.Generator().manual_seed(0))[:120]
    moved = 0.0
    for number, logits in ours.ablated(use, directions, latents):
        expected = token_by_token(lm, sae, ours.probes, latents[:number], TEST)
        torch.testing.assert_close(logits.float(), expected, atol=2e-4, rtol=1e-4)
        moved = float((expected - ours.clean).abs().max())
    assert moved > 0.05


def test_contrasts_are_differences_of_each_poles_means(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    contrasts = probed_with(lm, sae).use(sae).contrasts
    x = activations(lm, TRAIN, SITE, context=SETTINGS.context)
    present = x.abs().sum(-1, keepdim=True) != 0
    for poles, sign in ((contrasts.positive, 1), (contrasts.negative, -1)):
        codes = (sign * sae.encode(x)).clamp_min(0) * present
        means = (codes.sum(1) / present.sum(1)).double()
        expected = torch.stack([means[q.positive].mean(0) - means[q.negative].mean(0) for q in halves(TRAIN)])
        torch.testing.assert_close(poles, expected, atol=1e-5, rtol=1e-4)


def test_texts_in_several_parts_are_the_same_texts(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = random_sae("abstopk")
    whole = probed_with(lm, sae)
    monkeypatch.setattr("abench.tasks._shared.ablation._TEXTS_AT_ONCE", 17)
    parts = probed_with(lm, sae)
    torch.testing.assert_close(parts.use(sae).contrasts.negative, whole.use(sae).contrasts.negative)
    torch.testing.assert_close(parts.probes.weight, whole.probes.weight, atol=1e-5, rtol=1e-4)


def test_the_split_view_is_the_wide_sae(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    wide = WideSAE(sae)
    ours = probed_with(lm, sae, wide)
    split, explicit = ours.use(SplitSAE(sae)), ours.use(wide)
    torch.testing.assert_close(split.contrasts.positive, explicit.contrasts.positive)
    assert not split.contrasts.negative.any()
    torch.testing.assert_close(ours.directions(SplitSAE(sae)), ours.directions(wide))


def test_flipping_swaps_poles_and_turns_directions(lm: LanguageModel) -> None:
    sae = random_sae("abstopk")
    other = flipped(sae)
    ours = probed_with(lm, sae, other)
    sign = torch.sign((sae.W_dec * other.W_dec).sum(-1)).double()
    assert torch.equal(ours.directions(sae) * sign, ours.directions(other))
    a, b = ours.use(sae).contrasts, ours.use(other).contrasts
    assert torch.equal(torch.where(sign > 0, a.positive, a.negative), b.positive)


def test_the_strongest_have_an_effect_above_zero_and_the_first_of_a_tie_is_first() -> None:
    effects = torch.tensor([0.0, 2.0, -5.0, 3.0, 2.0, 0.0])
    assert strongest(effects).tolist() == [3, 1, 4]
    assert strongest(torch.zeros(4)).tolist() == []
    assert len(strongest(torch.rand(600) + 1)) == NUMBERS[-1]


def test_sae_bench_ablates_latents_without_effect_by_their_place() -> None:
    """Of the 4 latents with an effect it drops the two negative ones for any of effect 0."""
    effects = torch.tensor([3.0, 0, 0, 2.0, 0, -1.0, -2.0])
    chosen = scr_and_tpp.select_top_n_features(effects, 6, "nurse")
    assert chosen.sum() == 4
    assert int((effects[chosen] == 0).sum()) == 2
    turned = scr_and_tpp.select_top_n_features(effects.flip(0), 6, "nurse").flip(0)
    assert not torch.equal(chosen, turned)
    assert strongest(effects).tolist() == [0, 3]


def test_a_decoder_that_is_not_linear_is_a_skip(lm: LanguageModel) -> None:
    class Bent(WideSAE):
        def decode(self, codes: Tensor) -> Tensor:
            return super().decode(codes.sqrt())

    bent, straight = Bent(random_sae("abstopk")), random_sae("topk")
    ours = probed_with(lm, bent, straight)
    with pytest.raises(Skip, match="not linear in its codes"):
        ours.use(bent)
    ours.use(straight)
    check_linear(straight.to(torch.bfloat16), torch.randn(40, 128) * 30)


def test_an_sae_that_fails_costs_only_itself(lm: LanguageModel) -> None:
    narrow, good = random_sae("topk", d_in=64), random_sae("topk")
    ours = probed_with(lm, narrow, good)
    assert ours.use(good).test.latents == 256
    with pytest.raises(RuntimeError, match="must match the size"):
        ours.use(narrow)


def test_contrasts_start_from_nothing() -> None:
    assert not Contrasts.none(2, 3).positive.any()


def test_sae_bench_ablates_padding_too(lm: LanguageModel) -> None:
    """It decodes what the encoder makes of zeros where there is no token; the right value leaves that out."""
    sae = random_sae("relu")
    sae.b_enc += 0.5
    ours = probed_with(lm, sae)
    latents = torch.arange(0, 256, 3)
    mask = torch.zeros(256, dtype=torch.bool)
    mask[latents] = True
    x = activations(lm, TEST, SITE, context=SETTINGS.context)
    theirs = ours.probes.logits(scr_and_tpp.ablated_precomputed_activations(x, sae, mask, 125))
    right = token_by_token(lm, sae, ours.probes, latents, TEST)
    short = (x.abs().sum(-1) == 0).sum(1) > 2
    assert float((theirs - right).abs()[short].min()) > 1e-3
    *_, (_, logits) = ours.ablated(ours.use(sae), ours.directions(sae), latents)
    torch.testing.assert_close(logits.float(), right, atol=2e-4, rtol=1e-4)
