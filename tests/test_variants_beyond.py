"""The variants beyond the paper: what their operators minimise, their losses, their options."""

from collections.abc import Callable
from itertools import pairwise
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens import TrainingSAE
from sae_lens.saes.sae import TrainStepInput
from test_variants_operators import (
    GRID,
    SHAPE,
    best_on_supports,
    lambdas,
    numbers,
    objective,
    sae_and_inputs,
    vector,
)
from torch import Tensor

from abench.variants import (
    abs_jump_relu,
    abs_top_k,
    batch_abs_top_k,
    batch_top_k,
    get_variant,
    proximal_steps,
    signed_top_k,
    top_k,
)

seeds = st.integers(0, 10_000)


@given(u=numbers, lam_above=lambdas, lam_below=lambdas)
def test_two_sided_jump_minimises_over_a_fine_grid(u: float, lam_above: float, lam_below: float) -> None:
    def cost(z: Tensor) -> Tensor:
        return (z - u).square() / 2 + lam_above * (z > 0) + lam_below * (z < 0)

    above, below = sqrt(2 * lam_above), sqrt(2 * lam_below)
    z = abs_jump_relu(vector([u]), above, below)
    assert float(cost(z)) <= float(cost(GRID).min()) + 1e-9
    if min(abs(u - above), abs(u + below)) > 0.01:  # at a jump both 0 and u are minimisers
        assert abs(float(z) - float(GRID[cost(GRID).argmin()])) <= 5e-4


def problem(seed: int, tokens: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Some u [tokens, 7], x [tokens, 4] and a decoder [7, 4] with uneven rows."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(tokens, 7, generator=generator, dtype=torch.float64)
    x = torch.randn(tokens, 4, generator=generator, dtype=torch.float64)
    return u, x, torch.randn(7, 4, generator=generator, dtype=torch.float64)


@given(seed=seeds, k=st.integers(1, 3), step_size=st.floats(0.01, 1))
@settings(max_examples=40, deadline=None)
def test_a_proximal_step_minimises_its_model_of_the_objective(seed: int, k: int, step_size: float) -> None:
    u, x, decoder = problem(seed)
    before, after = (proximal_steps(u, x, decoder, vector(mu), k) for mu in ([], [step_size]))
    gradient = torch.func.grad(lambda z: (x - z @ decoder).square().sum() / 2)(before)
    for old, new, slope in zip(before, after, gradient, strict=True):
        target = old - step_size * slope
        best, argmin = best_on_supports(target, k, signed=True)
        assert objective(target, new, 0) == pytest.approx(best, abs=1e-12)
        torch.testing.assert_close(new, argmin)


@given(seed=seeds, k=st.integers(1, 3), sizes=st.lists(st.floats(0, 1), max_size=6))
@settings(max_examples=60, deadline=None)
def test_short_proximal_steps_never_increase_the_error(seed: int, k: int, sizes: list[float]) -> None:
    u, x, decoder = problem(seed)
    longest = 1 / float(torch.linalg.matrix_norm(decoder, 2)) ** 2
    errors = [
        (x - proximal_steps(u, x, decoder, longest * vector(sizes[:n]), k) @ decoder).square().sum(-1)
        for n in range(len(sizes) + 1)
    ]
    assert all(bool((later <= earlier + 1e-12).all()) for earlier, later in pairwise(errors))


@given(values=st.lists(numbers, min_size=5, max_size=5, unique=True), k=st.integers(1, 4))
def test_signed_top_k_goes_by_value(values: list[float], k: int) -> None:
    u = vector(values)
    z = signed_top_k(u, k)
    assert sorted(z[z != 0].tolist()) == [v for v in sorted(values)[-k:] if v != 0]
    assert torch.equal(z[z != 0], u[z != 0])
    if int((u > 0).sum()) >= k:
        assert torch.equal(z, top_k(u, k))


def test_signed_top_k_is_no_proximal_operator() -> None:
    u, other = vector([-2, -1]), vector([-1, -2])
    monotone = [
        float((u - other) @ (operator(u, 1) - operator(other, 1))) >= 0
        for operator in (signed_top_k, top_k, abs_top_k)
    ]
    assert monotone == [False, True, True]


def steps_by_hand(u: Tensor, sae: TrainingSAE, x: Tensor) -> Tensor:
    rows = sae.W_dec / sae.W_dec.norm(dim=-1, keepdim=True)
    z = abs_top_k(u, SHAPE.k)
    (size,) = sae.step_sizes
    return abs_top_k(z + size * ((x - sae.decode(z)) @ rows.T), SHAPE.k)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("absjumprelu", lambda u, sae, x: abs_jump_relu(u, sae.threshold, sae.negative_threshold)),
        ("multistep", steps_by_hand),
        ("matryoshka", lambda u, sae, x: batch_top_k(u, SHAPE.k)),
        ("absmatryoshka", lambda u, sae, x: batch_abs_top_k(u, SHAPE.k)),
        ("signedtopk", lambda u, sae, x: signed_top_k(u, SHAPE.k)),
    ],
)
def test_operator_is_the_activation_of_the_training_sae(
    name: str, operator: Callable[[Tensor, TrainingSAE, Tensor], Tensor]
) -> None:
    sae, x = sae_and_inputs(name)
    latents, pre = sae.encode_with_hidden_pre(x)
    expected = operator(pre, sae, x)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-5 if name == "multistep" else 0)
    assert torch.equal(latents != 0, expected != 0)
    assert 0 < int((latents != 0).sum()) < latents.numel()
    assert bool((latents < 0).any()) == (name not in {"matryoshka", "signedtopk"})


def step_input(x: Tensor, *, dead: Tensor | None = None, l0: float = 0.1) -> TrainStepInput:
    return TrainStepInput(x, {"l0": l0}, dead, 0, False)


@pytest.mark.parametrize("through", [True, False])
def test_absjumprelu_learns_both_sides_alike(through: bool) -> None:
    sae, mirror = (
        get_variant("absjumprelu", {"train_encoder_through_gate": through}).build(SHAPE, 3) for _ in "ab"
    )
    x = torch.randn(64, SHAPE.d_in, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        for side, start in ((sae.threshold, 0.5), (sae.negative_threshold, 1.5)):
            side.copy_(torch.linspace(start, start + 0.4, SHAPE.width))
        mirror.load_state_dict(sae.state_dict())
        for weights in (mirror.W_enc, mirror.b_enc, mirror.W_dec):
            weights *= -1
        mirror.threshold.copy_(sae.negative_threshold)
        mirror.negative_threshold.copy_(sae.threshold)
    outputs = [each.training_forward_pass(step_input(x)) for each in (sae, mirror)]
    for output in outputs:
        output.loss.backward()
    assert torch.equal(outputs[0].feature_acts, -outputs[1].feature_acts)
    l0 = float((outputs[0].feature_acts != 0).sum()) / 64
    assert float(outputs[0].losses["l0_loss"].detach()) == pytest.approx(0.1 * l0)
    for one, two, sign in [
        (sae.threshold, mirror.negative_threshold, 1),
        (sae.negative_threshold, mirror.threshold, 1),
        (sae.W_enc, mirror.W_enc, -1),
        (sae.b_dec, mirror.b_dec, 1),
    ]:
        torch.testing.assert_close(one.grad, sign * two.grad)
        assert bool((one.grad != 0).any())


@torch.no_grad()
def test_absjumprelu_thresholds_stay_at_or_above_zero() -> None:
    sae, x = sae_and_inputs("absjumprelu")
    sae.threshold.fill_(-0.5)
    sae.negative_threshold.fill_(-0.5)
    latents, pre = sae.encode_with_hidden_pre(x)
    assert torch.equal(latents, pre)  # where both sides opened, latents would be doubled
    assert float(sae.threshold.max()) == float(sae.negative_threshold.max()) == 0
