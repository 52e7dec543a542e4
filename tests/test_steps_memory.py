"""What a step leaves in memory, and that nothing of it leaks into the next."""

import copy
from typing import Any

import pytest
import torch
from test_steps import COEFFICIENTS, SHAPE, TOP, activations, build, dead_mask

from abench.training.steps import AutogradStep, make_step
from abench.variants import SAEShape, get_variant

from sae_lens import TopKTrainingSAE  # isort: skip - abench.variants makes sae_lens importable

LARGE = SAEShape(d_in=256, width=4096, k=8)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_gradients_are_in_the_same_memory_at_every_step(name: str) -> None:
    sae = build(name)
    step = make_step(sae)

    def addresses() -> list[int]:
        step(activations(), COEFFICIENTS[name], dead_mask(3))
        found = [sae.W_enc.grad.data_ptr(), sae.W_dec.grad.data_ptr()]
        sae.zero_grad(set_to_none=True)
        return found

    assert addresses() == addresses()


@pytest.mark.parametrize("name", TOP)
def test_a_step_makes_no_new_large_tensor(name: str) -> None:
    sae = get_variant(name).build(LARGE, seed=0)
    batch = torch.randn(1024, LARGE.d_in, generator=torch.Generator().manual_seed(0))
    step, alive = make_step(sae), torch.zeros(LARGE.width, dtype=torch.bool)
    step(batch, {}, alive)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step(batch, {}, alive)
    events = profile.events()
    assert events is not None
    largest = max(event.self_cpu_memory_usage for event in events)
    # The pre-activations take 16 MiB, each weight and each gradient 4 MiB.
    assert largest < 3 * 2**20, largest


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("shift", [0.0, 3.5])
def test_the_same_step_gives_the_same_bits_whatever_was_before(name: str, shift: float) -> None:
    def gradients(warm: bool) -> list[Any]:
        sae = build(name, dtype=torch.float32, shift=shift)
        step = make_step(sae)
        if warm:
            for seed in range(3):
                step(activations(seed, torch.float32) * 3, COEFFICIENTS[name], dead_mask(9))
            make_step(get_variant("relu").build(LARGE, seed=0))(torch.ones(8, 256), {"l1": 1.0}, dead_mask(0))
        result = step(activations(5, torch.float32), COEFFICIENTS[name], dead_mask(9))
        return [result.loss, result.mse, *(p.grad.clone() for p in sae.parameters())]

    for cold, warm in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(torch.as_tensor(cold), torch.as_tensor(warm))


class Squared(TopKTrainingSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Stands for a third party's architecture: like TopK, but not TopK."""

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes, hidden = super().encode_with_hidden_pre(x)
        return codes.square(), hidden


def test_an_unknown_architecture_trains_by_autograd() -> None:
    sae = Squared(get_variant("topk").training_config(SHAPE))
    step = make_step(sae)
    assert isinstance(step, AutogradStep)
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        result = step(activations(0, torch.float32), {}, dead_mask(5), step=0)
        optimiser.step()
        losses.append(result.loss)
    assert losses[-1] < losses[0]
    assert 0 < result.l0 <= SHAPE.k
    assert result.fired.dtype == torch.bool


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("topk", "normalize_activations", "layer_norm"),
        ("relu", "lp_norm", 2.0),
        ("jumprelu", "jumprelu_sparsity_loss_mode", "quadratic"),
    ],
)
def test_options_without_a_derived_step_train_by_autograd(name: str, key: str, value: object) -> None:
    sae = build(name)
    setattr(sae.cfg, key, value)
    assert isinstance(make_step(sae), AutogradStep)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_a_loss_that_is_lost_is_reported(name: str) -> None:
    sae = build(name, dtype=torch.float32)
    step = make_step(sae)
    broken = activations(0, torch.float32)
    broken[3, 3] = torch.nan
    assert not torch.tensor(step(broken, COEFFICIENTS[name], dead_mask(0)).loss).isfinite()
    with torch.no_grad():
        sae.W_enc[0, 0] = torch.nan
    assert not torch.tensor(
        step(activations(0, torch.float32), COEFFICIENTS[name], dead_mask(0)).loss
    ).isfinite()


def test_a_copy_of_the_sae_has_a_step_of_its_own() -> None:
    sae = build("topk")
    other = copy.deepcopy(sae)
    first = make_step(sae)(activations(), {}, dead_mask(0))
    second = make_step(other)(activations(), {}, dead_mask(0))
    assert first.loss == second.loss
