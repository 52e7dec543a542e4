"""Each operator minimises what its docstring says (the paper's Lemma 1), and is what sae-lens computes."""

from collections.abc import Callable, Iterator
from itertools import combinations
from math import inf, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens import TrainingSAE
from torch import Tensor

from abench.variants import (
    SAEShape,
    abs_top_k,
    batch_abs_top_k,
    batch_top_k,
    gate,
    get_variant,
    jump_relu,
    soft_threshold,
    top_k,
    two_sided_jump,
)

numbers = st.floats(-4, 4, width=32).map(lambda x: round(x, 3))
lambdas = st.floats(0.05, 4)
GRID = torch.arange(-10_000, 10_001, dtype=torch.float64) / 2000
SHAPE = SAEShape(d_in=16, width=48, k=6)


def objective(u: Tensor, z: Tensor, penalty: float) -> float:
    return float((u - z).square().sum()) / 2 + penalty


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(u=numbers, lam=lambdas)
@pytest.mark.parametrize(
    ("operator", "regulariser"),
    [
        (soft_threshold, lambda z: torch.where(z >= 0, z, inf)),
        (lambda u, lam: jump_relu(u, sqrt(2 * lam)), lambda z: torch.where(z >= 0, (z != 0).double(), inf)),
        (lambda u, lam: two_sided_jump(u, sqrt(2 * lam)), lambda z: (z != 0).double()),
    ],
    ids=["relu", "jumprelu", "two-sided"],
)
def test_separable_operators_minimise_over_a_fine_grid(
    operator: Callable[[Tensor, float], Tensor],
    regulariser: Callable[[Tensor], Tensor],
    u: float,
    lam: float,
) -> None:
    z = operator(vector([u]), lam)
    costs = (GRID - u).square() / 2 + lam * regulariser(GRID)
    cost = objective(vector([u]), z, lam * float(regulariser(z)))
    assert cost <= float(costs.min()) + 1e-9
    if abs(abs(u) - sqrt(2 * lam)) > 0.01:  # at the jump both 0 and u are minimisers
        assert abs(float(z) - float(GRID[costs.argmin()])) <= 5e-4


def supports(n: int, k: int) -> Iterator[list[int]]:
    for size in range(k + 1):
        yield from map(list, combinations(range(n), size))


def best_on_supports(u: Tensor, k: int, *, signed: bool) -> tuple[float, Tensor]:
    """Minimum and minimiser of ½‖u − z‖² with at most k non-zeros, by trying every support."""
    best, argmin = inf, u
    for support in supports(len(u), k):
        z = torch.zeros_like(u)
        z[support] = u[support] if signed else u[support].clamp(min=0)
        if objective(u, z, 0) < best:
            best, argmin = objective(u, z, 0), z
    return best, argmin


@given(data=st.data(), shape=st.sampled_from([(1, 5), (2, 3), (2, 4)]), k=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_sparse_operators_minimise_over_all_supports(
    signed: bool, batch: bool, data: st.DataObject, shape: tuple[int, int], k: int
) -> None:
    rows, width = shape
    u = vector(data.draw(st.lists(numbers, min_size=rows * width, max_size=rows * width))).reshape(shape)
    operators = {(False, False): top_k, (True, False): abs_top_k}
    operators |= {(False, True): batch_top_k, (True, True): batch_abs_top_k}
    z = operators[signed, batch](u, k)
    groups = (
        [(u.flatten(), z.flatten(), k * rows)] if batch else [(a, b, k) for a, b in zip(u, z, strict=True)]
    )
    for u_group, z_group, limit in groups:
        best, argmin = best_on_supports(u_group, limit, signed=signed)
        assert int((z_group != 0).sum()) <= limit
        assert signed or bool((z_group >= 0).all())
        assert objective(u_group, z_group, 0) == pytest.approx(best, abs=1e-12)
        sizes = u_group.abs() if signed else u_group.clamp(min=0)
        if len(sizes.unique()) == len(sizes):
            assert torch.equal(z_group, argmin)


def sae_and_inputs(name: str) -> tuple[TrainingSAE, Tensor]:
    """An untrained SAE with random biases and uneven decoder norms, and 32 inputs."""
    sae = get_variant(name).build(SHAPE, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.2 * torch.rand(parameter.shape, generator=generator)
    return sae, torch.randn(32, SHAPE.d_in, generator=generator)


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("relu", lambda u, sae: soft_threshold(u + 0.3, 0.3)),
        ("jumprelu", lambda u, sae: jump_relu(u, sae.threshold)),
        ("topk", lambda u, sae: top_k(u, SHAPE.k)),
        ("abstopk", lambda u, sae: abs_top_k(u, SHAPE.k)),
        ("batchtopk", lambda u, sae: batch_top_k(u, SHAPE.k)),
        ("batchabstopk", lambda u, sae: batch_abs_top_k(u, SHAPE.k)),
    ],
)
def test_operator_is_the_activation_of_the_training_sae(
    name: str, operator: Callable[[Tensor, TrainingSAE], Tensor]
) -> None:
    sae, x = sae_and_inputs(name)
    with torch.no_grad():
        latents, pre = sae.encode_with_hidden_pre(x)
        # relu: a bias of 0.3 less is the same as λ = 0.3, up to rounding.
        torch.testing.assert_close(operator(pre, sae), latents, rtol=0, atol=1e-6 if name == "relu" else 0)
    assert 0 < int((latents != 0).sum()) < latents.numel()


def test_gated_is_jump_relu_with_thresholds_from_its_biases() -> None:
    sae, x = sae_and_inputs("gated")
    with torch.no_grad():
        latents, magnitude = sae.encode_with_hidden_pre(x)
        gate_pre = (x - sae.b_dec) @ sae.W_enc + sae.b_gate
        assert torch.equal(gate(gate_pre, magnitude), latents)
        threshold = (sae.b_mag - sae.r_mag.exp() * sae.b_gate).clamp(min=0)
        torch.testing.assert_close(jump_relu(magnitude, threshold), latents)
    assert 0 < int((latents != 0).sum()) < latents.numel()
