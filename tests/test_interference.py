"""Interference between poles: each firing removed by hand, planted harm, and what does not change a score."""

from typing import Any

import pytest
import torch
from abench.tasks.interference import Firings, Interference, Sums, added_error
from pole_saes import AXES, planted
from signed import flipped, permuted, random_sae

from abench import latent_directions
from abench.conformance.bench import Bench
from abench.conformance.rewritten import normalising
from abench.task import checked

NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(limit=20)


def scored(bench: Bench, sae: Any) -> dict[str, float]:
    task, ctx = Interference(), bench.context((sae,))
    with torch.no_grad():
        prepared = task.prepare(bench.lm, ctx)  # type: ignore[arg-type]
        return checked(task, task.score(sae, prepared, bench.lm, ctx))  # type: ignore[arg-type]


def activations(tokens: int = 40, d_in: int = 24) -> torch.Tensor:
    return torch.randn(tokens, d_in, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("variant", ["abstopk", "topk", "jumprelu", "multistep"])
def test_a_firing_adds_what_is_missing_without_it(variant: str, normalisation: str) -> None:
    x, sae = activations(), random_sae(variant, d_in=24, width=48, k=6)
    sae = sae if normalisation == "none" else normalising(sae, normalisation)
    with torch.no_grad():
        sae.W_dec *= torch.linspace(0.5, 2, 48)[:, None]
        codes = sae.encode(x)  # sae-lens decodes the batch that it has encoded last
        x_hat = sae.decode(codes)
        firings = Firings.of(sae, x)
        added = added_error(firings, x - x_hat, latent_directions(sae).float())
        error = (x - x_hat).square().sum(-1)
        assert len(added) == int((codes != 0).sum()) > 0
        for token, latent, one in zip(firings.tokens.tolist(), firings.latents.tolist(), added, strict=True):
            without = codes.clone()
            without[token, latent] = 0
            sae.encode(x)
            left = (x - sae.decode(without))[token].square().sum()
            assert float(one) == pytest.approx(float(error[token] - left), abs=2e-3 * float(error[token]))


def test_planted_harm_is_found() -> None:
    """Latent 0 fires with both signs, but only what makes it positive is along its direction."""
    sae = random_sae("abstopk", d_in=4, width=3, k=1)
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(4)[:3])
        sae.W_enc.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-0.5, 0, 0]]))
        sae.b_dec.zero_()
        sae.b_enc.zero_()
        # Three firings that help, a code of -1 for a feature elsewhere, and a pole that helps on its own.
        x = torch.tensor([[2.0, 0, 0, 0], [3.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 2.0], [0, -1.0, 0, 0]])
        sums = Sums(3, x.device)
        sums.add(sae, x)
    assert sums.scores() == {
        "two_sided_by_strength": 1.0,  # of latent 0 1 of 14, of latent 1 a half; latent 2 is dead
        "weaker_strength": pytest.approx(2 / 16),
        "weaker_firings": pytest.approx(2 / 5),
        "harmful": pytest.approx(1 / 5),
        "harmful_weaker": pytest.approx(1 / 5),
        "harm": pytest.approx(1 / 5),  # the error of the fourth token is 1 + 2², and 2² without its firing
    }


def test_scores_do_not_depend_on_signs_or_order(bench: Bench) -> None:
    sae = bench.saes["signed"]
    found = scored(bench, sae)
    assert 0 < found["harmful_weaker"] < found["harmful"] < 1
    for other in (flipped(sae), permuted(sae)):
        assert scored(bench, other) == pytest.approx(found, rel=1e-4)


def test_a_non_negative_sae_has_no_weaker_poles(bench: Bench) -> None:
    found = scored(bench, random_sae("topk", width=64, k=4))
    weaker = ("two_sided_by_strength", "weaker_strength", "weaker_firings", "harmful_weaker")
    assert [found[name] for name in weaker] == [0, 0, 0, 0]
    assert found["harmful"] > 0


def test_latents_along_the_world_s_axes_are_two_sided(bench: Bench) -> None:
    sae = planted(bench.lm, bench.site)  # type: ignore[arg-type]
    with torch.no_grad():
        sae.W_enc[:, len(AXES) :] = 0
    found = scored(bench, sae)
    assert found["two_sided_by_strength"] == 1 and found["weaker_strength"] > 0.05
