"""RAVEL on the bundled model: flips, views, closed forms, planted subspaces, and where it is skipped.

In float64, so that what must be equal is not equal up to a rounding that Adam makes large.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from abench.tasks.ravel import Exchanges, Ravel
from abench.tasks.ravel.bank import Bank
from abench.tasks.ravel.mask import Fit, effect, exchanged, learn_mask, reconstructions
from ravel_saes import learnt_basis, rotated
from short_memory import short_of_memory
from signed import WideSAE, flipped, permuted, random_sae

from abench import Context, LanguageModel, Skip, SplitSAE, UserError
from abench.config import DataSpec, EvaluationSpec
from abench.plugins import find_tasks, get_task
from abench.task import checked, parted
from abench.tinyworld import MODEL_DIR

SITE = "blocks.0.hook_resid_post"
CONTEXT = Context(SITE, EvaluationSpec(), DataSpec(source="tinyworld", dataset=None), context_size=128)
PEOPLE = Ravel(attributes={"person": ("country", "field")})
FIT = Fit(1e-3, 2, 32)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel.load(MODEL_DIR, name="tiny", dtype="float64", eos_after_documents=True)


@pytest.fixture(scope="module")
def prepared(lm: LanguageModel) -> Exchanges:
    with torch.no_grad():
        return PEOPLE.prepare(lm, CONTEXT)


@pytest.fixture(scope="module")
def small(lm: LanguageModel) -> Exchanges:
    """Fewer pairs, for what holds for any number of them."""
    with torch.no_grad():
        return PEOPLE.model_copy(update={"pairs": 60}).prepare(lm, CONTEXT)


def score(sae: Any, prepared: Exchanges, lm: LanguageModel) -> dict[str, float]:
    with torch.no_grad():
        scores, details = parted(PEOPLE, PEOPLE.score(sae, prepared, lm, CONTEXT))
    assert set(details["attributes"]["person"]) == {"country", "field"}
    return checked(PEOPLE, scores)


def test_the_task_is_found_under_its_name() -> None:
    assert type(get_task("ravel", {}, find_tasks())).__name__ == "Ravel"


@pytest.mark.parametrize("view", [lambda sae: sae, SplitSAE], ids=["native", "split"])
def test_flipping_latents_changes_nothing(view: Any, small: Exchanges, lm: LanguageModel) -> None:
    sae = rotated("abstopk", 80)
    before, after = (score(view(each), small, lm) for each in (sae, flipped(sae)))
    assert after == pytest.approx(before, abs=1e-6)
    assert before["cause_score"] > 0.2


def test_the_split_view_is_the_wide_sae(small: Exchanges, lm: LanguageModel) -> None:
    sae = rotated("abstopk", 80)
    wide = score(WideSAE(sae), small, lm)
    assert score(SplitSAE(sae), small, lm) == pytest.approx(wide, abs=1e-6)
    assert score(sae, small, lm) != wide
    pairs = small.experiments[0][0].train
    masks = [learn_mask(each, pairs, small.bank, lm, SITE, FIT) for each in (SplitSAE(sae), WideSAE(sae))]
    assert torch.equal(*masks)


def test_for_a_non_negative_sae_both_views_are_one(small: Exchanges, lm: LanguageModel) -> None:
    sae = rotated("topk", 80)
    assert score(SplitSAE(sae), small, lm) == pytest.approx(score(sae, small, lm), abs=1e-6)


def test_planted_subspaces_are_found(prepared: Exchanges, lm: LanguageModel) -> None:
    """Blocks of latents that carry one attribute each: near the optimum, with exactly those exchanged."""
    planted = rotated("abstopk", 128, basis=learnt_basis(prepared, lm, SITE, 100))
    ceiling = sum(each for _, each in prepared.experiments) / 2
    scores = score(planted, prepared, lm)
    assert scores["cause_score"] > ceiling - 0.12
    assert scores["isolation_score"] > 0.88
    assert score(permuted(planted), prepared, lm) == pytest.approx(scores, abs=1e-6)
    for number, (experiment, _) in enumerate(prepared.experiments):
        mask = learn_mask(planted, experiment.train, prepared.bank, lm, SITE, FIT)
        block = torch.zeros(129, dtype=torch.bool)
        block[64 * number : 64 * (number + 1)] = True
        assert float((mask == block).double().mean()) > 0.85
    mixed = score(rotated("abstopk", 128), prepared, lm)
    assert mixed["disentanglement_score"] < scores["disentanglement_score"] - 0.15
    chance = score(random_sae("abstopk", width=512).to(torch.float64), prepared, lm)
    assert chance["disentanglement_score"] < 0.3


def test_exchanging_everything_and_nothing(prepared: Exchanges, lm: LanguageModel) -> None:
    exact, bank = rotated("abstopk", 128), prepared.bank
    for experiment, ceiling in prepared.experiments:
        pairs = experiment.test
        everything = reconstructions(exact, torch.ones(129, dtype=torch.bool), pairs, bank)
        nothing = reconstructions(exact, torch.zeros(129, dtype=torch.bool), pairs, bank)
        torch.testing.assert_close(everything, bank.at_entity([pair.source for pair in pairs]))
        torch.testing.assert_close(nothing, bank.at_entity([pair.base for pair in pairs]))
        assert effect(everything, pairs, bank, lm, SITE, 6).cause == ceiling > 0.5
        untouched = effect(nothing, pairs, bank, lm, SITE, 6)
        assert (untouched.cause, untouched.isolation) == (0, 1)


def test_latents_add_what_they_add_at_the_source_also_if_the_sae_normalises(small: Exchanges) -> None:
    from copy import deepcopy

    from sae_lens.saes.abstopk_sae import AbsTopKSAE

    plain = rotated("abstopk", 128)
    config = deepcopy(plain.cfg)
    config.normalize_activations = "layer_norm"
    sae = AbsTopKSAE(config).to(torch.float64).requires_grad_(False)
    sae.load_state_dict(plain.state_dict())
    pairs = small.experiments[0][0].test
    base, source = (
        small.bank.at_entity(numbers)
        for numbers in ([pair.base for pair in pairs], [pair.source for pair in pairs])
    )
    # sae-lens divides by the deviation plus 1e-5, and multiplies by the deviation.
    close = {"atol": 1e-3, "rtol": 1e-3}
    torch.testing.assert_close(exchanged(sae, torch.zeros(129), pairs, small.bank), base, **close)
    # A token's mean is no latent's: the base keeps its own.
    wanted = source - source.mean(-1, keepdim=True) + base.mean(-1, keepdim=True)
    values = exchanged(sae, torch.ones(129), pairs, small.bank)
    torch.testing.assert_close(values, wanted, **close)


def test_reconstructions_that_are_not_finite_are_an_error(small: Exchanges, lm: LanguageModel) -> None:
    sae = rotated("abstopk", 80)
    with torch.no_grad():
        sae.b_dec[3] = torch.nan
    with pytest.raises(ValueError, match="reconstructions of entities are not finite"):
        score(sae, small, lm)


def test_learning_leaves_the_sae_and_the_random_state_alone(small: Exchanges, lm: LanguageModel) -> None:
    sae = rotated("topk", 80).requires_grad_(True)
    before, state = {n: p.clone() for n, p in sae.named_parameters()}, torch.get_rng_state()
    with torch.inference_mode():
        PEOPLE.score(sae, small, lm, CONTEXT)
    for name, parameter in sae.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_training_step_that_runs_out_of_memory_is_a_sentence(small: Exchanges, lm: LanguageModel) -> None:
    pairs = small.experiments[0][0].train
    with short_of_memory(lm, 1), pytest.raises(UserError) as raised:
        learn_mask(rotated("topk", 80), pairs, small.bank, lm, SITE, FIT)
    assert str(raised.value).startswith(
        "there is not enough memory for a training step on 32 pairs (CUDA out of memory. Tried to allocate "
        "2.50 GiB); batches are not made smaller, because that would change the scores: set "
    )


def test_what_does_not_fit_is_run_anew_and_gives_the_same(small: Exchanges, lm: LanguageModel) -> None:
    kept = small.bank
    anew = Bank(lm, SITE, kept.known, set(range(len(kept.known))), most=10)
    sae = rotated("abstopk", 80)
    assert score(sae, replace(small, bank=anew), lm) == pytest.approx(score(sae, small, lm), abs=1e-6)


def test_pairs_are_drawn_by_the_seed_of_the_evaluation(lm: LanguageModel) -> None:
    def pairs(seed: int) -> list[tuple[str, str]]:
        context = replace(CONTEXT, evaluation=EvaluationSpec(seed=seed, limit=40))
        prepared = PEOPLE.prepare(lm, context)
        known = prepared.bank.known
        every = [pair for experiment, _ in prepared.experiments for pair in experiment.train]
        return [(known[pair.base].prompt.text, known[pair.source].prompt.text) for pair in every]

    assert pairs(0) == pairs(0) != pairs(1)


def test_a_limit_cuts_the_prompts(lm: LanguageModel) -> None:
    said: list[str] = []
    context = replace(CONTEXT, evaluation=EvaluationSpec(limit=30), say=said.append)
    prepared = PEOPLE.prepare(lm, context)
    assert said == ["tiny completes 60 of 60 prompts about person entities correctly"]
    assert all(len(e.train) + len(e.test) <= 60 for e, _ in prepared.experiments)


def test_it_is_skipped_where_attributes_are_no_longer_read_from_the_entity(lm: LanguageModel) -> None:
    with pytest.raises(
        Skip, match=r"last token: exchanging the whole .* in 0% .*; use an earlier block, e.g. --layers 1$"
    ):
        PEOPLE.prepare(lm, replace(CONTEXT, site="blocks.2.hook_resid_post"))


def test_it_is_skipped_where_the_model_knows_too_little(lm: LanguageModel) -> None:
    other = LanguageModel.load(MODEL_DIR, name="untrained", eos_after_documents=True)
    with torch.no_grad():
        for parameter in other.model.get_decoder().layers.parameters():
            parameter.zero_()
    with pytest.raises(Skip, match="completes only 0 of 300 prompts about the country of person entities"):
        PEOPLE.prepare(other, CONTEXT)
    with pytest.raises(Skip, match="4 pairs about the country of person entities are too few"):
        few = PEOPLE.model_copy(update={"train_share": 0.9})
        few.prepare(lm, replace(CONTEXT, evaluation=EvaluationSpec(limit=2)))


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"river": ("length", "mouth")}, "no entities of kind 'river'; its kinds are city and person"),
        ({"city": ("country", "mayor")}, "has no attribute 'mayor'; it has country, continent, language"),
    ],
)
def test_unknown_kinds_and_attributes(lm: LanguageModel, attributes: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Ravel(attributes=attributes).prepare(lm, CONTEXT)


def test_one_attribute_has_nothing_to_be_isolated_from() -> None:
    with pytest.raises(UserError, match="at least 2 items"):
        get_task("ravel", {"attributes": {"city": ["country"]}}, find_tasks())
