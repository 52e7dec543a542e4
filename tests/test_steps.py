"""The derived steps give sae-lens's loss, its gradients and, step after step, its training."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from abench.training.steps import AutogradStep, Step, make_step
from abench.training.steps import penalised as penalised_module
from abench.variants import SAEShape, get_variant

from sae_lens import TrainingSAE  # isort: skip - abench.variants makes sae_lens importable

SHAPE = SAEShape(d_in=16, width=64, k=4)
TOKENS = 96
TOP = ["topk", "abstopk", "batchtopk", "batchabstopk"]
COEFFICIENTS: dict[str, Mapping[str, float]] = {
    "relu": {"l1": 0.3},
    "gated": {"l1": 0.3},
    "jumprelu": {"l0": 0.3},
} | {name: {} for name in TOP}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    *((name, {}, {"rescale_acts_by_decoder_norm": on}) for name in TOP for on in (True, False)),
    ("topk", {}, {"apply_b_dec_to_input": False}),
    ("batchabstopk", {"aux_loss_coefficient": 0.1}, {"apply_b_dec_to_input": False}),
    ("relu", {}, {}),
    ("relu", {}, {"apply_b_dec_to_input": False}),
    ("gated", {}, {}),
    ("gated", {}, {"apply_b_dec_to_input": False}),
    *(
        ("jumprelu", {"loss": loss, "train_encoder_through_gate": to_input, **more}, {})
        for loss in ("step", "tanh")
        for to_input in (True, False)
        for more in ({"bandwidth": 0.5}, {"bandwidth": 0.01, "pre_act_loss_coefficient": 0.01})
    ),
]


def build(
    name: str,
    options: Mapping[str, Any] = {},
    config: Mapping[str, Any] = {},
    dtype: torch.dtype = torch.float64,
    shift: float = 0.0,
) -> TrainingSAE[Any]:
    """An SAE away from its initialisation, so that decoder norms differ and no gradient vanishes."""
    sae = get_variant(name, options).build(SHAPE, seed=0).to(dtype)
    sae.dtype = dtype
    for key, value in config.items():
        setattr(sae.cfg, key, value)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
        for bias in ("b_enc", "b_gate"):
            if getattr(sae, bias, None) is not None:
                getattr(sae, bias).sub_(shift)
    return sae


def activations(seed: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(TOKENS, SHAPE.d_in, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dead_mask(count: int) -> Tensor:
    return torch.arange(SHAPE.width) < count


def assert_same_step(sae: TrainingSAE[Any], name: str, dead: Tensor) -> None:
    reference = copy.deepcopy(sae)
    step = make_step(sae)
    assert not isinstance(step, AutogradStep)
    step(activations(seed=9), COEFFICIENTS[name], dead)  # whatever it leaves behind must not matter
    result = step(activations(), COEFFICIENTS[name], dead)
    if hasattr(reference, "topk_threshold"):
        AutogradStep(reference)(activations(seed=9), COEFFICIENTS[name], dead)
    expected = AutogradStep(reference)(activations(), COEFFICIENTS[name], dead)
    assert result.loss == pytest.approx(expected.loss, rel=1e-10)
    assert result.mse == pytest.approx(expected.mse, rel=1e-10)
    assert result.l0 == expected.l0
    assert torch.equal(result.fired, expected.fired)
    theirs = dict(reference.named_parameters())
    for parameter_name, parameter in sae.named_parameters():
        # JumpReLU's threshold is in float32 whatever the rest.
        exact = parameter.dtype == torch.float64
        torch.testing.assert_close(
            parameter.grad,
            theirs[parameter_name].grad,
            rtol=1e-8 if exact else 1e-4,
            atol=1e-10 if exact else 1e-5,
            msg=lambda text, n=parameter_name: f"{n}: {text}",
        )
    for buffer_name, buffer in sae.named_buffers():
        torch.testing.assert_close(buffer, dict(reference.named_buffers())[buffer_name])


@pytest.mark.parametrize(("name", "options", "config"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("dead", [0, 3, 20])
def test_loss_and_gradients_are_those_of_sae_lens(
    name: str, options: dict[str, Any], config: dict[str, Any], dead: int
) -> None:
    assert_same_step(build(name, options, config), name, dead_mask(dead))


@pytest.mark.parametrize(("name", "options", "config"), CASES[10:], ids=lambda value: str(value))
def test_penalised_variants_take_the_sparse_way_when_few_latents_are_active(
    name: str, options: dict[str, Any], config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(penalised_module, "DenseCodes", None)
    assert_same_step(build(name, options, config, shift=3.5), name, dead_mask(5))


@pytest.mark.parametrize("name", ["relu", "gated", "jumprelu"])
def test_dense_steps_may_be_cut_into_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalised_module, "CHUNK", SHAPE.width * 36)  # 96 tokens: 36, 36 and 24
    assert_same_step(build(name), name, dead_mask(5))


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("tokens", [1, 7])
def test_small_batches_and_idle_latents(name: str, tokens: int) -> None:
    sae = build(name, shift=50.0 if name not in TOP else 0.0)  # penalised ones have nothing active
    reference = copy.deepcopy(sae)
    batch = activations()[:tokens]
    result = make_step(sae)(batch, COEFFICIENTS[name], dead_mask(0))
    expected = AutogradStep(reference)(batch, COEFFICIENTS[name], dead_mask(0))
    assert result.loss == pytest.approx(expected.loss, rel=1e-10)
    assert result.l0 == expected.l0
    for ours, theirs in zip(sae.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["topk", "abstopk", "batchabstopk", "relu", "gated"])
@pytest.mark.parametrize("rescale", [True, False])
def test_gradients_are_the_slopes_of_the_loss(name: str, rescale: bool) -> None:
    """Against finite differences of the derived step's own loss, without sae-lens or autograd."""
    config = {"rescale_acts_by_decoder_norm": rescale} if name in TOP else {}
    sae = build(name, config=config, shift=0.0 if name in TOP else 1.0)
    step, batch, dead = make_step(sae), activations()[:12], dead_mask(0)
    step(batch, COEFFICIENTS[name], dead)
    gradients = {n: p.grad.clone() for n, p in sae.named_parameters() if p.grad is not None}
    for parameter_name, parameter in sae.named_parameters():
        for place in (0, parameter.numel() // 2, parameter.numel() - 1):
            slope = finite_difference(parameter, place, lambda: step(batch, COEFFICIENTS[name], dead).loss)
            found = float(gradients[parameter_name].flatten()[place])
            assert found == pytest.approx(slope, rel=1e-5, abs=1e-7), (parameter_name, place)


def finite_difference(parameter: Tensor, place: int, loss: Callable[[], float], by: float = 1e-6) -> float:
    entry = parameter.data.view(-1)[place : place + 1]
    before = entry.clone()
    entry += by
    above = loss()
    entry.copy_(before - by)
    below = loss()
    entry.copy_(before)
    return (above - below) / (2 * by)


def trained(step_class: Callable[[Any], Step], name: str, rescale: bool, dead: Tensor) -> list[Any]:
    sae = build(name, dtype=torch.float32)
    if name in TOP:
        sae.cfg.rescale_acts_by_decoder_norm = rescale
    step, optimiser = step_class(sae), torch.optim.Adam(sae.parameters(), lr=1e-3)
    results = []
    for seed in range(50):
        results.append(step(activations(seed, torch.float32), COEFFICIENTS[name], dead, step=seed))
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimiser.step()
    return results


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("dead", [0, 12])
def test_fifty_steps_go_the_same_way(name: str, rescale: bool, dead: int) -> None:
    ours = trained(make_step, name, rescale, dead_mask(dead))
    theirs = trained(AutogradStep, name, rescale, dead_mask(dead))
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.loss == pytest.approx(reference.loss, rel=1e-5)
        assert mine.l0 == pytest.approx(reference.l0, abs=2 / TOKENS)
        assert int((mine.fired != reference.fired).sum()) <= 1
