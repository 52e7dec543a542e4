"""Building, training and calibrating: same seeds, equal L0, thresholds that hold on unseen tokens."""

import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import TrainingSAE
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor

from abench.variants import L0Controller, SAEShape, get_variant, variant_names
from abench.variants import calibration as calibration_module
from abench.variants.calibration import rescaled_pre_activations, threshold_for

SHAPE = SAEShape(d_in=32, width=256, k=16)


def dictionary_samples(n: int, seed: int, d_in: int = 32) -> Tensor:
    """Sparse sums of 128 fixed directions of uneven frequency, scaled to a mean norm of √d_in."""
    fixed, fresh = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(128, d_in, generator=fixed), dim=-1)
    rates = (torch.arange(128) + 10.0) ** -0.8
    active = torch.rand(n, 128, generator=fresh) < 10 * rates / rates.sum()
    x = (active * (0.5 + 0.7 * torch.randn(n, 128, generator=fresh).abs())) @ directions
    x += 0.05 * torch.randn(n, d_in, generator=fresh)
    return x * 1.75  # the mean norm before is √32 / 1.75, within 3 %


def train(name: str, steps: int, batch: int = 512) -> tuple[TrainingSAE, list[float]]:
    """A trained SAE and the L0 of every step."""
    variant = get_variant(name)
    sae, controller = variant.build(SHAPE, seed=1), L0Controller.for_variant(variant, SHAPE)
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-3, betas=(0.9, 0.99))
    history = []
    for step in range(steps):
        output = sae.training_forward_pass(
            TrainStepInput(
                sae_in=dictionary_samples(batch, seed=100 + step),
                coefficients=controller.coefficients() if controller else {},
                dead_neuron_mask=None,
                n_training_steps=step,
                is_logging_step=False,
            )
        )
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        history.append(float((output.feature_acts != 0).sum()) / batch)
        if controller:
            controller.update(history[-1])
    return sae, history


@pytest.mark.parametrize("name", ["relu", "gated", "jumprelu"])
def test_controller_brings_l0_to_k(name: str) -> None:
    _, history = train(name, steps=800)
    assert sum(history[-50:]) / 50 == pytest.approx(SHAPE.k, rel=0.1)
    assert all(abs(l0 - SHAPE.k) < 0.25 * SHAPE.k for l0 in history[-200:]), "L0 still swings"


def test_restored_controller_continues_bit_for_bit() -> None:
    readings = [120.0, 64.5, 0.0, 7.3, 15.9, 16.2, 1 / 3, 99.0] * 4
    whole, first, second = (L0Controller("l1", 16, 0.1) for _ in range(3))
    expected = [whole.update(l0) for l0 in readings]
    assert [first.update(l0) for l0 in readings[:13]] == expected[:13]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.coefficient == expected[12]
    assert [second.update(l0) for l0 in readings[13:]] == expected[13:]
    assert len(set(expected)) > 20


def test_controller_only_where_there_is_a_penalty() -> None:
    for name in variant_names():
        variant = get_variant(name)
        controller = L0Controller.for_variant(variant, SHAPE)
        assert (controller is None) == (variant.penalty is None)
        if controller is not None:
            assert controller.coefficients().keys() == variant.build(SHAPE, seed=0).get_coefficients().keys()


@pytest.mark.parametrize("coefficient", [0.0, 0.004])
def test_coefficient_given_as_an_option_stays(coefficient: float) -> None:
    variant = get_variant("jumprelu", {"coefficient": coefficient})
    controller = L0Controller.for_variant(variant, SHAPE)
    assert controller is not None
    for l0 in (200.0, 0.0):
        controller.update(l0)
    assert controller.coefficients() == {"l0": coefficient}
    assert variant.build(SHAPE, seed=0).get_coefficients()["l0"].value == coefficient


@pytest.mark.parametrize("name", ["batchtopk", "batchabstopk"])
def test_calibrated_l0_is_k_on_unseen_tokens(name: str) -> None:
    sae, _ = train(name, steps=60)

    def l0(threshold: float, x: Tensor) -> float:
        sizes = torch.cat(list(rescaled_pre_activations(sae, x)))
        sizes = sizes.abs() if name == "batchabstopk" else sizes
        return float((sizes > threshold).sum()) / len(x)

    seen, unseen = dictionary_samples(20_000, seed=7), dictionary_samples(20_000, seed=8)
    assert l0(float(sae.topk_threshold), unseen) > 1.5 * SHAPE.k, "sae-lens's threshold was right after all"
    get_variant(name).calibrate(sae, seen, SHAPE.k)
    assert l0(float(sae.topk_threshold), seen) == SHAPE.k
    assert l0(float(sae.topk_threshold), unseen) == pytest.approx(SHAPE.k, rel=0.01)


def test_calibration_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = get_variant("batchabstopk").build(SHAPE, seed=1)
    thresholds = set()
    for entries in (2**24, 100 * SHAPE.width, 7 * SHAPE.width):
        monkeypatch.setattr(calibration_module, "ENTRIES_PER_CHUNK", entries)
        get_variant("batchabstopk").calibrate(sae, dictionary_samples(1000, seed=7), SHAPE.k)
        thresholds.add(round(float(sae.topk_threshold), 6))
    assert len(thresholds) == 1


@given(values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=60, unique=True), data=st.data())
def test_threshold_is_exceeded_by_exactly_count_values(values: list[float], data: st.DataObject) -> None:
    count, size = data.draw(st.integers(1, 10)), data.draw(st.integers(1, 8))
    stream = torch.tensor(values)
    threshold = threshold_for(torch.split(stream, size), count)
    assert threshold >= 0
    assert int((stream > threshold).sum()) == min(count, int((stream > 0).sum()))


def test_threshold_of_a_long_stream_is_exact() -> None:
    stream = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    ordered = stream.sort(descending=True).values
    for size in (50, 333, 20_000):
        assert float(ordered[100]) < threshold_for(torch.split(stream, size), 100) < float(ordered[99])


def test_threshold_between_neighbouring_floats() -> None:
    one = torch.tensor(1.0)
    for low, high in ((one, one.nextafter(2 * one)), (one.nextafter(0 * one), one)):
        assert float(low) <= threshold_for([torch.stack([high, low])], 1) < float(high)


@pytest.mark.parametrize("name", variant_names())
def test_same_seed_same_weights_and_no_global_seed(name: str) -> None:
    build: Callable[[int], dict[str, Tensor]] = lambda seed: get_variant(name).build(SHAPE, seed).state_dict()  # noqa: E731
    before = torch.random.get_rng_state()
    first, again, other = build(1), build(1), build(2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["W_dec"], other["W_dec"])
    torch.testing.assert_close(first["W_dec"].norm(dim=-1), torch.ones(SHAPE.width))


def test_k_must_be_below_the_width() -> None:
    for k in (0, 256):
        with pytest.raises(ValueError, match="between 1 and the width 256"):
            get_variant("topk").build(SAEShape(d_in=32, width=256, k=k), seed=0)


def test_batchabstopk_revives_dead_latents_by_absolute_value() -> None:
    sae = get_variant("batchabstopk").build(SHAPE, seed=1)
    # One dead latent more than the auxiliary loss takes (half of d_in): by value the first would be left out.
    dead = torch.arange(SHAPE.width) < SHAPE.d_in // 2 + 1
    with torch.no_grad():
        sae.b_enc[0] = -50.0
    x = dictionary_samples(64, seed=3)
    latents, pre = sae.encode_with_hidden_pre(x)
    losses = sae.calculate_aux_loss(TrainStepInput(x, {}, dead, 0, False), latents, pre, sae.decode(latents))
    losses["auxiliary_reconstruction_loss"].backward()
    assert bool((pre[:, 0] < 0).all())
    assert float(sae.W_dec.grad[0].norm()) > 0


def test_batchabstopk_threshold_follows_negative_latents() -> None:
    sae = get_variant("batchabstopk").build(SHAPE, seed=1)
    sae.update_topk_threshold(torch.tensor([[-3.0, 0.0, -2.0]]))
    assert float(sae.topk_threshold) == pytest.approx(0.01 * 2.0)
