"""Candidates for steering, against rankings written out and gradients by finite differences."""

from itertools import product
from typing import Any

import pytest
import torch
from scipy.stats import rankdata
from signed import WideSAE, flipped, permuted, random_sae
from steering_saes import exported
from torch import Tensor

from abench import (
    AblateDirection,
    AddDirection,
    ClampLatent,
    Continuations,
    LanguageModel,
    SplitSAE,
    UserError,
    contrast_codes,
    direction_candidates,
    latent_candidates,
    latent_rankings,
    mean_difference,
    objective_gradient,
    random_directions,
    random_latents,
    residual_codes,
    steered,
)
from abench.conformance.rewritten import normalising
from abench.tinyworld import MODEL_DIR, World

SITE = "blocks.2.hook_resid_post"
HARMFUL, HARMLESS = (
    [request.prompt for request in World().requests(kind, "train", 8, seed=0)] for kind in (True, False)
)
REFUSES = Continuations(towards=("i cannot", "sorry"), away=("sure",))


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)


@pytest.fixture(scope="module")
def gradient(lm: LanguageModel) -> Tensor:
    return objective_gradient(lm, HARMFUL, SITE, REFUSES)


def tokens_of(lm: LanguageModel, text: str) -> list[int]:
    return [lm.bos_id, *lm.token_ids([text])[0]]  # type: ignore[list-item]


def residuals(lm: LanguageModel, prompt: str) -> Tensor:
    """[tokens, d_model] of a prompt by itself, BOS left out."""
    return lm.residual(torch.tensor([tokens_of(lm, prompt)]), SITE)[0, 1:]


# Gradients


def log_prob(lm: LanguageModel, prompt: str, continuation: str) -> float:
    start, ids = tokens_of(lm, prompt), lm.token_ids([continuation])[0]
    scores = lm.log_probs(torch.tensor([start + ids]))[0]
    return float(scores[-len(ids) :].double().sum())


def objective_of(lm: LanguageModel) -> float:
    """The mean over prompts of the objective REFUSES, one forward pass per continuation."""
    each = [
        (log_prob(lm, prompt, "i cannot") + log_prob(lm, prompt, "sorry")) / 2 - log_prob(lm, prompt, "sure")
        for prompt in HARMFUL
    ]
    return sum(each) / len(each)


def slope(lm: LanguageModel, direction: Tensor, value: Any, step: float = 0.02) -> float:
    """The change of value(lm) per unit of length that all tokens are moved along a direction."""
    ends = []
    for sign in (1, -1):
        with steered(lm, SITE, AddDirection(direction, sign * step)):
            ends.append(value(lm))
    return float((ends[0] - ends[1]) / (2 * step))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_the_slope_of_the_objective(seed: int, lm: LanguageModel, gradient: Tensor) -> None:
    direction = random_directions(lm.d_model, seed + 1, seed=seed)[-1].direction
    expected = slope(lm, direction, objective_of)
    assert float(gradient @ direction.double()) == pytest.approx(expected, rel=0.02, abs=2e-3)


def test_the_gradient_of_a_function_of_logits(lm: LanguageModel) -> None:
    sorry = lm.token_ids(["sorry"])[0][0]

    def objective(logits: Tensor) -> Tensor:
        return logits[:, sorry] - logits.logsumexp(-1)

    found = objective_gradient(lm, HARMFUL, SITE, objective)
    torch.testing.assert_close(found, objective_gradient(lm, HARMFUL, SITE, Continuations(["sorry"])))
    assert float(found.norm()) > 0


def test_the_gradient_does_not_depend_on_order_or_on_the_other_prompts(
    lm: LanguageModel, gradient: Tensor
) -> None:
    backwards = objective_gradient(lm, HARMFUL[::-1], SITE, REFUSES)
    torch.testing.assert_close(backwards, gradient, rtol=1e-3, atol=1e-4)
    each = [objective_gradient(lm, [prompt], SITE, REFUSES) for prompt in HARMFUL]
    torch.testing.assert_close(torch.stack(each).mean(0), gradient, rtol=1e-3, atol=1e-4)


def test_the_model_is_unchanged_by_a_gradient(lm: LanguageModel) -> None:
    tokens = torch.tensor([tokens_of(lm, HARMFUL[0])])
    before = lm.logits(tokens)
    with torch.inference_mode():
        objective_gradient(lm, HARMFUL[:2], SITE, REFUSES)
    assert torch.equal(lm.logits(tokens), before)
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def test_mistakes_in_objectives_are_sentences(lm: LanguageModel) -> None:
    for prompts, objective, reason in (
        ([], REFUSES, "at least one prompt"),
        (HARMFUL, Continuations([]), "at least one continuation"),
        (HARMFUL, Continuations(["sorry"], [""]), "the continuation '' has no tokens"),
        (["cat " * 255], Continuations(["sorry", "i cannot"]), "is 256"),
        (HARMFUL, lambda logits: logits[:, 0] * torch.nan, "is not finite"),
    ):
        with pytest.raises(UserError, match=reason):
            objective_gradient(lm, prompts, SITE, objective)


# Rankings of latents


def codes_of(lm: LanguageModel, sae: Any, prompts: list[str], pooling: str) -> Tensor:
    """Pooled codes [prompts, latents] in units of the residual stream, prompt by prompt, float64."""
    each = [residual_codes(sae, residuals(lm, prompt)).double() for prompt in prompts]
    return torch.stack([codes.mean(0) if pooling == "mean" else codes[-1] for codes in each])


def area(ours: Tensor, others: Tensor) -> float:
    """The share of pairs in which ours is larger; equal values count half."""
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(ours.tolist(), others.tolist())]
    return sum(wins) / len(wins)


def contrast(lm: LanguageModel, sae: Any) -> Any:
    return contrast_codes(lm, [sae], HARMFUL, HARMLESS, SITE)(sae)


def saes() -> list[Any]:
    some = [exported("abstopk"), exported("jumprelu"), random_sae("topk")]
    return [*some, normalising(some[0], "layer_norm"), SplitSAE(some[0])]


@pytest.mark.parametrize("number", range(5))
def test_rankings_are_those_written_out(number: int, lm: LanguageModel, gradient: Tensor) -> None:
    sae = saes()[number]
    found = latent_rankings(sae, contrast(lm, sae), gradient=gradient)
    assert len(found) == 5
    width = sae.cfg.d_sae
    for pooling in ("mean", "last"):
        ours, others = (codes_of(lm, sae, side, pooling) for side in (HARMFUL, HARMLESS))
        differences = found[f"difference, {pooling}"].values
        torch.testing.assert_close(differences, ours.mean(0) - others.mean(0), rtol=1e-3, atol=1e-3)
        areas = [area(a, b) - 0.5 for a, b in zip(ours.float().T, others.float().T, strict=True)]
        agree = (found[f"separation, {pooling}"].values - torch.tensor(areas)).abs() < 1e-9
        # The sums over tokens are rounded in another order, which decides between nearly equal codes.
        assert int(agree.sum()) >= width - 2
    fires = (torch.cat([residual_codes(sae, residuals(lm, p)) for p in [*HARMFUL, *HARMLESS]]) != 0).any(0)
    rows = sae.W_dec / sae.W_dec.norm(dim=-1, keepdim=True)
    expected = (rows.double() @ gradient) * fires
    torch.testing.assert_close(found["gradient"].values, expected, rtol=1e-3, atol=1e-4)
    # All latents of the JumpReLU SAE fire somewhere.
    assert (0 < int(fires.sum()) < width) or number == 1
    assert contrast(lm, sae).firing == fires.nonzero().flatten().tolist()


def test_the_gradient_of_a_latent_is_what_clamping_it_starts_with(
    lm: LanguageModel, gradient: Tensor
) -> None:
    sae = exported("abstopk")
    ranking = latent_rankings(sae, contrast(lm, sae), gradient=gradient)["gradient"]
    best = next(ranking.order())
    expected = slope(lm, sae.W_dec[best].detach(), objective_of)
    assert float(ranking.values[best]) == pytest.approx(expected, rel=0.05)


def test_saes_read_together_have_the_codes_that_each_has_alone(lm: LanguageModel) -> None:
    some = saes()
    calls = 0

    def counted(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hook = lm.model.register_forward_pre_hook(counted)
    try:
        contrast(lm, some[0])
        for_one, calls = calls, 0
        together = contrast_codes(lm, some, HARMFUL, HARMLESS, SITE)
    finally:
        hook.remove()
    assert 0 < calls == for_one
    for sae in some:
        alone = contrast(lm, sae)
        for pooling, codes in together(sae).pooled.items():
            assert (codes.positive != alone.pooled[pooling].positive).nnz == 0
            assert (codes.negative is None) == (alone.pooled[pooling].negative is None)
        assert together(sae).signed == (sae is some[0] or sae is some[3])


def test_equal_areas_are_ordered_by_difference(lm: LanguageModel) -> None:
    sae = exported("abstopk")
    rankings = latent_rankings(sae, contrast(lm, sae))
    assert "gradient" not in rankings
    ranking = rankings["separation, last"]
    order = list(ranking.order())
    keys = [(float(ranking.values[n].abs()), float(ranking.ties[n].abs())) for n in order]
    assert keys == sorted(keys, reverse=True)
    assert len({value for value, _ in keys}) < len(keys)


def test_ranks_in_single_precision_give_the_same_areas(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = exported("abstopk")
    before = latent_rankings(sae, contrast(lm, sae))

    def as_in_newer_versions(values: Any, axis: int) -> Any:
        return rankdata(values, axis=axis).astype(values.dtype)

    monkeypatch.setattr("abench.steering.latent_rankings.rankdata", as_in_newer_versions)
    after = latent_rankings(sae, contrast(lm, sae))
    for pooling in ("mean", "last"):
        ranking = f"separation, {pooling}"
        assert torch.equal(after[ranking].values, before[ranking].values)


# Candidates


def poles(sae: Any, found: list[Any]) -> Tensor:
    """The directions [candidates, d_model] that candidates assert."""
    rows = torch.stack([sae.W_dec[each.latent] * each.sign for each in found])
    return rows / rows.norm(dim=-1, keepdim=True)


def proposed(lm: LanguageModel, sae: Any, gradient: Tensor, number: int = 16) -> list[Any]:
    return list(latent_candidates(sae, contrast(lm, sae), number=number, gradient=gradient))


def test_the_rankings_take_turns(lm: LanguageModel, gradient: Tensor) -> None:
    sae = exported("abstopk")
    found = proposed(lm, sae, gradient, 10)
    rankings = latent_rankings(sae, contrast(lm, sae), gradient=gradient)
    assert [each.by for each in found] == [*rankings, *rankings]
    taken: list[int] = []
    for each in found:
        ranking = rankings[each.by]
        assert each.latent == next(latent for latent in ranking.order() if latent not in taken)
        assert each.score * each.sign == pytest.approx(float(ranking.values[each.latent]))
        assert each.score > 0
        taken.append(each.latent)


def test_the_same_candidates_however_an_sae_is_written(lm: LanguageModel, gradient: Tensor) -> None:
    sae = random_sae("abstopk")
    expected = poles(sae, proposed(lm, sae, gradient))
    assert len(expected) == 16
    for other in (flipped(sae), permuted(sae), flipped(permuted(sae, 1), 1)):
        torch.testing.assert_close(poles(other, proposed(lm, other, gradient)), expected)
    for other in (SplitSAE(sae), SplitSAE(flipped(sae))):
        found, wide = proposed(lm, other, gradient), proposed(lm, WideSAE(other.base), gradient)
        torch.testing.assert_close(poles(other, found), poles(WideSAE(other.base), wide))
        lines = poles(other, found) @ poles(other, found).T
        assert float((lines - torch.eye(len(lines))).abs().max()) < 0.999


def test_poles_of_one_line_are_one_candidate(lm: LanguageModel, gradient: Tensor) -> None:
    sae = random_sae("topk")
    with torch.no_grad():
        for weights, axis in ((sae.W_dec, 0), (sae.W_enc, 1)):
            half = weights.narrow(axis, 0, 128)
            weights.narrow(axis, 128, 128).copy_(-half)
    found = proposed(lm, sae, gradient)
    cosines = poles(sae, found) @ poles(sae, found).T - torch.eye(len(found))
    assert len(found) == 16
    assert float(cosines.abs().max()) < 0.999


def test_a_latent_is_clamped_to_lengths_in_the_residual_stream(lm: LanguageModel, gradient: Tensor) -> None:
    [first, *_] = proposed(lm, exported("abstopk"), gradient)
    assert first.at(3.0) == ClampLatent(first.sae, first.latent, 3.0 * first.sign)
    assert first.at(-3.0) == ClampLatent(first.sae, first.latent, -3.0 * first.sign)
    assert first.plain()["latent"] == first.latent


def test_an_sae_that_tells_nothing_apart_has_no_candidate(lm: LanguageModel) -> None:
    sae = random_sae("jumprelu")
    with torch.no_grad():
        sae.W_enc.zero_()
    assert latent_candidates(sae, contrast(lm, sae), gradient=torch.ones(lm.d_model)) == []


def test_directions_are_differences_in_means(lm: LanguageModel) -> None:
    found, norm = direction_candidates(lm, HARMFUL, HARMLESS, SITE, number=6)
    means = {way: mean_difference(lm, HARMFUL, HARMLESS, SITE, pooling=way) for way in ("mean", "last")}  # type: ignore[arg-type]
    assert norm == pytest.approx(means["mean"].activation_norm)
    assert [each.way for each in found] == ["add", "ablate"] * 3
    assert [each.by for each in found[:4]] == ["mean", "mean", "last", "last"]
    for each in found[:4]:
        torch.testing.assert_close(each.direction, means[each.by].direction)
    place = int(found[4].by)
    ours, others = (
        torch.stack([residuals(lm, prompt)[place] for prompt in side]).mean(0) for side in (HARMFUL, HARMLESS)
    )
    expected = (ours - others) / (ours - others).norm()
    torch.testing.assert_close(found[4].direction, expected, rtol=1e-3, atol=1e-3)


def test_directions_are_added_or_removed(lm: LanguageModel) -> None:
    add, ablate = direction_candidates(lm, HARMFUL, HARMLESS, SITE, number=2)[0]
    h = residuals(lm, HARMFUL[0])[None]
    torch.testing.assert_close(add.at(2.0)(h), h + 2.0 * add.direction)
    assert isinstance(ablate.at(2.0), AblateDirection)
    assert (add.has_strength, ablate.has_strength) == (True, False)
    only, _ = direction_candidates(lm, HARMFUL, HARMLESS, SITE, number=2, ablation=False)
    assert [(each.by, each.way) for each in only] == [("mean", "add"), ("last", "add")]


def test_no_more_directions_than_the_shortest_prompt_has_tokens(lm: LanguageModel) -> None:
    found, _ = direction_candidates(lm, ["cat sat", "dog ran"], ["sky sat", "sun ran"], SITE, number=16)
    assert {each.by for each in found} <= {"mean", "last", "-2"}
    with pytest.raises(UserError, match="do not differ"):
        direction_candidates(lm, HARMFUL, HARMFUL, SITE)
    with pytest.raises(UserError, match="at least 2 positive prompts"):
        direction_candidates(lm, HARMFUL[:1], HARMLESS, SITE)


# Controls


def test_random_directions_have_no_preferred_side() -> None:
    found = random_directions(64, 400, seed=3)
    rows = torch.stack([each.direction for each in found])
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(400))
    assert float(rows.mean(0).norm()) < 0.1
    assert torch.equal(rows[0], random_directions(64, 1, seed=3)[0].direction)
    assert not torch.equal(rows[0], random_directions(64, 1, seed=4)[0].direction)


def test_random_latents_are_the_same_however_an_sae_is_written() -> None:
    sae = random_sae("abstopk")
    among = list(range(0, 256, 2))
    expected = random_latents(sae, among, 8, seed=1)
    assert len({each.latent for each in expected}) == 8
    assert all(each.latent in among for each in expected)
    assert expected != random_latents(sae, among, 8, seed=2)
    turned = flipped(sae)
    torch.testing.assert_close(poles(turned, random_latents(turned, among, 8, seed=1)), poles(sae, expected))
    everything = range(256)
    rows = poles(sae, random_latents(sae, everything, 8, seed=1))
    other = permuted(sae)
    torch.testing.assert_close(poles(other, random_latents(other, everything, 8, seed=1)), rows)
    split = SplitSAE(sae)
    torch.testing.assert_close(poles(split, random_latents(split, range(512), 8, seed=1)), rows)
    assert random_latents(sae, [], 8, seed=1) == []
