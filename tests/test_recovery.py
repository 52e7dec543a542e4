"""The recovery task against planted SAEs, brute force, closed forms and sae-lens."""

from itertools import combinations, permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from abench import Context, Skip, train
from abench.config import DataSpec, EvaluationSpec
from abench.config.synthetic_spec import SyntheticSpec
from abench.conformance.rewritten import InOtherUnits, normalising
from abench.data.synthetic import SyntheticModel
from abench.plugins import find_tasks, get_task
from abench.task import checked, parted, wrong_kind

F = 12
SPEC = SyntheticSpec(features=F, l0=3, two_sided=0.5, seed=1)
CONTEXT = Context(
    site="activations",
    evaluation=EvaluationSpec(tokens=3000, batch_size=8),
    data=DataSpec(),
    context_size=128,
)


def world(**changes: object) -> SyntheticModel:
    return SyntheticModel(SPEC.model_copy(update=changes), 16, name="s")


def score(sae: Any, lm: SyntheticModel | None = None, **options: object) -> dict[str, float]:
    lm = lm or world()
    task = get_task("recovery", options, find_tasks())
    with torch.no_grad():
        result = task.score(sae, task.prepare(lm, CONTEXT), lm, CONTEXT)
    return checked(task, parted(task, result)[0])


def signed_sae(directions: Tensor, k: int | None = None) -> Any:
    """An AbsTopK SAE whose latents have these directions [latents, d], encoder and decoder alike."""
    from sae_lens.saes.abstopk_sae import AbsTopKSAE, AbsTopKSAEConfig

    count, d = directions.shape
    config = AbsTopKSAEConfig(d_in=d, d_sae=count, k=k or count, apply_b_dec_to_input=False)
    return planted(AbsTopKSAE(config), directions)


def one_sided_sae(directions: Tensor) -> Any:
    """A ReLU SAE whose latents have these directions [latents, d], encoder and decoder alike."""
    from sae_lens import StandardSAE, StandardSAEConfig

    count, d = directions.shape
    config = StandardSAEConfig(d_in=d, d_sae=count, apply_b_dec_to_input=False)
    return planted(StandardSAE(config), directions)


def planted(sae: Any, directions: Tensor) -> Any:
    sae.W_enc.data, sae.W_dec.data = directions.T.clone(), directions.clone()
    return sae.requires_grad_(False)


def pairs(directions: Tensor) -> Tensor:
    return torch.cat([directions, -directions])


# Planted SAEs

PERFECT = {"mcc", "mean_max_cosine", "poles_recovered", "f1", "precision", "recall", "sign_purity"}


def test_a_signed_sae_with_the_true_directions_is_perfect() -> None:
    scores = score(signed_sae(world().directions))
    assert {name: scores[name] for name in PERFECT} == pytest.approx(dict.fromkeys(PERFECT, 1.0), abs=1e-6)
    assert scores["latents_per_axis"] == 1
    assert scores["spurious_firings"] == 0
    assert scores["coefficient_error"] == pytest.approx(0, abs=1e-5)
    assert scores["explained_variance"] == pytest.approx(1, abs=1e-5)
    assert scores["l0"] == scores["true_l0"] == pytest.approx(3, rel=0.05)


def test_opposite_one_sided_latents_are_as_good_but_take_two_an_axis() -> None:
    signed, split = score(signed_sae(world().directions)), score(one_sided_sae(pairs(world().directions)))
    assert split["latents_per_axis"] == 2
    assert split == pytest.approx(signed | {"latents_per_axis": 2.0}, abs=1e-6)


def test_signed_latents_that_share_an_axis_count_as_fragments() -> None:
    directions = world().directions
    both = signed_sae(torch.cat([directions, -directions]))
    both.activation_fn = torch.nn.ReLU()  # each signed latent is left with one side
    assert score(both)["latents_per_axis"] == 2


def test_half_of_every_axis_finds_half_of_the_poles() -> None:
    lm = world(two_sided=1.0)
    scores = score(one_sided_sae(lm.directions), lm)
    assert scores["mcc"] == pytest.approx(1, abs=1e-6)
    for name in ("poles_recovered", "f1", "precision", "recall"):
        assert scores[name] == pytest.approx(0.5), name
    assert scores["latents_per_axis"] == 2
    assert scores["sign_purity"] == 1
    assert scores["coefficient_error"] == pytest.approx(0.5, abs=0.02)


class _Size(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


def test_a_latent_deaf_to_sign_is_half_pure() -> None:
    lm = world(two_sided=1.0)
    deaf = signed_sae(lm.directions)
    deaf.activation_fn = _Size()
    scores = score(deaf, lm)
    assert scores["sign_purity"] == pytest.approx(0.5, abs=0.02)
    assert scores["precision"] == pytest.approx(0.25, abs=0.01)  # half of the matched poles, none of the rest
    assert scores["recall"] == pytest.approx(0.5, abs=1e-6)


def test_shrunken_coefficients_are_off_by_their_shrinkage() -> None:
    sae = signed_sae(world().directions)
    sae.W_enc.data *= 0.75
    assert score(sae)["coefficient_error"] == pytest.approx(0.25, abs=1e-5)
    sae.W_dec.data /= 0.75  # the size of code times decoder row is what counts
    assert score(sae)["coefficient_error"] == pytest.approx(0, abs=1e-5)


def test_a_world_without_two_sided_features_has_one_latent_an_axis() -> None:
    lm = world(two_sided=0.0)
    for sae in (signed_sae(lm.directions), one_sided_sae(lm.directions)):
        scores = score(sae, lm)
        assert (scores["latents_per_axis"], scores["sign_purity"]) == (1, 1)
        assert scores["f1"] == pytest.approx(1)


def test_the_wrong_side_of_a_one_sided_feature_is_spurious() -> None:
    lm = world(two_sided=0.0, coefficients="constant")
    sae = signed_sae(lm.directions)
    sae.b_dec.data = 0.5 * lm.directions.sum(0)  # in the middle of every feature, so that silence is negative
    sae.cfg.apply_b_dec_to_input = True
    scores = score(sae, lm)
    assert (scores["recall"], scores["precision"]) == (1, 1)
    assert scores["spurious_firings"] == pytest.approx(1 - 3 / F, abs=0.02)


def test_too_few_latents_leave_features_unfound() -> None:
    scores = score(signed_sae(world().directions[:3]))
    assert scores["mcc"] == pytest.approx(3 / F, abs=1e-6)
    assert scores["f1"] < 0.5


def test_random_saes_score_near_chance() -> None:
    lm = SyntheticModel(SPEC.model_copy(update={"two_sided": 1.0}), 256, name="s")
    generator = torch.Generator().manual_seed(0)
    runs = []
    for _ in range(10):
        sae = signed_sae(torch.randn(64, 256, generator=generator) / 16, k=8)
        # Matching is by decoder, so an encoder of its own makes firings independent of the matches.
        sae.W_enc.data = torch.randn(256, 64, generator=generator)
        runs.append(score(sae, lm))
    mean = {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}
    # |cosine| of random directions is |N(0, 1/256)|; its maximum over 64 is about 2.4 standard deviations.
    assert mean["mean_max_cosine"] == pytest.approx(2.4 / 16, rel=0.1)
    assert mean["mcc"] <= mean["mean_max_cosine"]
    assert mean["poles_recovered"] == 0
    # A pole fires in 1/8 of the tokens, a latent's in 1/16: by chance F1 is 2 · (1/8 · 1/16) / (1/8 + 1/16).
    assert mean["f1"] == pytest.approx(1 / 12, abs=0.015)
    assert mean["sign_purity"] == pytest.approx(0.5, abs=0.1)
    assert mean["coefficient_error"] > 0.9


def test_an_sae_that_never_fires_is_an_error() -> None:
    with pytest.raises(Skip, match="no latent fires"):
        score(one_sided_sae(torch.zeros(20, 16)))


# Invariance


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    lm = world(noise=0.05)
    chunks = [lm.sample(4096, "train", seed=0, index=index).activations for index in range(20)]
    results = train(chunks, variants=["abstopk", "topk"], k=[4], width=40, steps=150, batch_size=512)
    return {result.variant: result.sae for result in results}


def rearranged(sae: Any, signs: Tensor, order: Tensor) -> Any:
    import copy

    other = copy.deepcopy(sae)
    other.W_enc.data = (sae.W_enc.data * signs)[:, order]
    other.W_dec.data = (sae.W_dec.data * signs[:, None])[order]
    other.b_enc.data = (sae.b_enc.data * signs)[order]
    return other


@pytest.mark.parametrize("way", ["layer_norm", "constant_norm_rescale"])
def test_the_same_function_in_other_units_has_the_same_scores(way: str, trained: dict[str, Any]) -> None:
    sae, lm = normalising(trained["abstopk"], way), world(noise=0.05)
    assert score(InOtherUnits(sae), lm) == pytest.approx(score(sae, lm), rel=1e-5)


@pytest.mark.parametrize("variant", ["abstopk", "topk"])
def test_signs_and_places_of_latents_change_nothing(variant: str, trained: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(4)
    signs = torch.ones(40)
    if variant == "abstopk":
        signs = torch.where(torch.rand(40, generator=generator) < 0.5, 1.0, -1.0)
    other = rearranged(trained[variant], signs, torch.randperm(40, generator=generator))
    lm = world(noise=0.05)
    expected = score(trained[variant], lm)
    assert 0.3 < expected["f1"] < 1  # neither hopeless nor perfect, so that there is something to change
    assert score(other, lm) == pytest.approx(expected, rel=1e-5)


# Against brute force and sae-lens


def brute_force(sae: Any, lm: SyntheticModel, epsilon: float) -> dict[str, float]:
    """All scores of a tiny SAE by trying every assignment and looping over every token."""
    x_z = [lm.sample(min(1024, 3000 - s), "held_out", seed=0, index=s // 1024) for s in range(0, 3000, 1024)]
    z = torch.cat([each.coefficients for each in x_z]).double()
    codes = (sae.encode(torch.cat([each.activations for each in x_z])) * sae.W_dec.norm(dim=-1)).double()
    true = [(i, s) for i in range(z.shape[1]) for s in (1, -1) if bool((s * z[:, i] > epsilon).any())]
    found = [
        (j, s) for j in range(codes.shape[1]) for s in (1, -1) if bool((s * codes[:, j] > epsilon).any())
    ]
    cosine = torch.nn.functional.cosine_similarity(lm.directions[:, None], sae.W_dec[None], dim=-1)
    pole_cosine = [[float(cosine[i, j]) * s * t for j, t in found] for i, s in true]
    match = best_assignment(pole_cosine)
    f1s, precisions, recalls, error, hits, both_two, opposite_two, carriers = [], [], [], 0.0, 0, 0, 0, []
    two_sided = [i for i in range(z.shape[1]) if (i, 1) in true and (i, -1) in true]
    for row, (i, s) in enumerate(true):
        t = [s * float(v) for v in z[:, i]]
        column = match.get(row)
        c = (
            [0.0] * len(t)
            if column is None
            else [found[column][1] * float(v) for v in codes[:, found[column][0]]]
        )
        tp = sum(a > epsilon and b > epsilon for a, b in zip(t, c, strict=True))
        n_true, n_found = sum(a > epsilon for a in t), sum(b > epsilon for b in c)
        hits += tp
        precisions.append(tp / n_found if n_found else 0.0)
        recalls.append(tp / n_true)
        f1s.append(2 * tp / (n_true + n_found))
        error += sum(abs(max(b, 0) - a) for a, b in zip(t, c, strict=True) if a > epsilon)
        if i in two_sided:
            both_two += tp
            opposite_two += sum(a < -epsilon and b > epsilon for a, b in zip(t, c, strict=True))
            carriers.append((i, ("none", row) if column is None else found[column][0]))
    axes = best_assignment([[abs(float(v)) for v in row] for row in cosine])
    return {
        "mcc": sum(abs(float(cosine[i, j])) for i, j in axes.items()) / len(cosine),
        "f1": sum(f1s) / len(f1s),
        "precision": sum(precisions) / len(f1s),
        "recall": sum(recalls) / len(f1s),
        "sign_purity": both_two / (both_two + opposite_two),
        "coefficient_error": error / float(z.abs()[z.abs() > epsilon].sum()),
        "latents_per_axis": len(set(carriers)) / len(two_sided),
        "l0": float((codes.abs() > epsilon).sum()) / len(codes),
        "spurious_firings": 1 - hits / int((codes.abs() > epsilon).sum()),
    }


def best_assignment(values: list[list[float]]) -> dict[int, int]:
    """The one-to-one assignment of rows to columns with the largest sum, by trying all."""
    rows, columns = len(values), len(values[0])
    tries = (
        dict(zip(chosen, order, strict=True))
        for chosen in combinations(range(rows), min(rows, columns))
        for order in permutations(range(columns), min(rows, columns))
    )
    return max(tries, key=lambda each: sum(values[i][j] for i, j in each.items()))


@pytest.mark.parametrize("latents", [2, 3, 5])
@pytest.mark.parametrize("signed", [True, False])
def test_every_score_is_what_brute_force_finds(signed: bool, latents: int) -> None:
    spec = SyntheticSpec(features=3, l0=1.2, positive=(0.5, 1.0, 0.3), noise=0.1, coefficients="exponential")
    lm = SyntheticModel(spec, 4, name="s")
    generator = torch.Generator().manual_seed(latents)
    directions = 0.8 * torch.randn(latents, 4, generator=generator)
    sae = signed_sae(directions, k=2) if signed else one_sided_sae(directions)
    scores = score(sae, lm, epsilon=0.2)
    expected = brute_force(sae, lm, 0.2)
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_mcc_is_sae_lens_s_where_all_latents_fire() -> None:
    from sae_lens.synthetic.evals import mean_correlation_coefficient

    directions = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    theirs = mean_correlation_coefficient(directions, world().directions)
    assert score(signed_sae(directions))["mcc"] == pytest.approx(theirs, rel=1e-5)


# The context


def test_a_language_model_is_skipped_with_a_reason() -> None:
    task = get_task("recovery", {}, find_tasks())
    assert wrong_kind(task, "synthetic") is None
    assert wrong_kind(task, "language") == (
        "it needs a synthetic model: the true features of a language model are not known"
    )


def test_a_limit_cuts_the_activations_and_the_seed_changes_them() -> None:
    task = get_task("recovery", {}, find_tasks())

    def tokens(**changes: int) -> Any:
        evaluation = CONTEXT.evaluation.model_copy(update=changes)
        context = Context("activations", evaluation, DataSpec(), context_size=128)
        return task.prepare(world(), context)

    assert (tokens().tokens, tokens(limit=70).tokens) == (3000, 70)
    first, again, other = (tokens(seed=seed).batches[0].activations for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
