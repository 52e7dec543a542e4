"""The variants beyond the paper, trained by abench's own trainer, saved, and opened by sae-lens."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import sae_lens
import torch
from own_variants import ridge
from sae_lens.saes.sae import TrainStepInput
from test_variants_export import SCALE, SHAPE, activations, assert_near
from test_variants_operators import vector
from test_variants_training import SHAPE as WIDE
from test_variants_training import dictionary_samples, train
from torch import Tensor

from abench.config import TrainingSpec
from abench.training.trainer import SAETrainer
from abench.variants import Variant, find_variants, get_variant, load_sae, registry, save_sae
from abench.variants.calibration import rescaled_pre_activations

__all__ = ["ridge"]  # a fixture

BEYOND = ["absjumprelu", "multistep", "matryoshka", "absmatryoshka", "signedtopk"]
INFERENCE = {"matryoshka": "jumprelu", "absmatryoshka": "batchabstopk"}
"""Architectures of the saved SAEs that differ from the variant's name."""
SPEC = TrainingSpec(
    tokens=60 * 256, batch_size=256, learning_rate=3e-3, dead_after_tokens=5 * 256, buffer_tokens=256
)


@torch.enable_grad()
def trained(name: str, options: Mapping[str, object] | None = None) -> SAETrainer:
    """A trainer after 60 steps on scaled activations, calibrated; its training SAE stays unscaled."""
    trainer = SAETrainer(get_variant(name, options), SHAPE, SPEC, seed=1)
    for step in range(SPEC.steps):
        trainer.train_on(activations(256, seed=100 + step) * SCALE)
    trainer.finish(activations(2000, seed=2) * SCALE)
    return trainer


def reconstruction(trainer: SAETrainer, scaled: Tensor) -> Tensor:
    """The training SAE's; batch-level types through their threshold, as inference has it."""
    sae = trainer.sae
    if not hasattr(sae, "topk_threshold"):
        return sae.decode(sae.encode(scaled))
    pre = torch.cat(list(rescaled_pre_activations(sae, scaled)))
    sizes = pre.abs() if trainer.variant.signed else pre
    return sae.decode(torch.where(sizes > sae.topk_threshold, pre, 0))


@torch.no_grad()
@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_sae_lens_opens_what_was_trained(name: str, layer_norm: bool, tmp_path: Path) -> None:
    trainer, x = trained(name, {"steps": 3} if name == "multistep" else None), activations(500, seed=3)
    save_sae(trainer.sae, tmp_path, scale=1 if layer_norm else SCALE, metadata={}, layer_norm=layer_norm)
    loaded = sae_lens.SAE.load_from_disk(tmp_path)
    if layer_norm:
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        assert_near(loaded(x), reconstruction(trainer, (x - mean) / (std + 1e-5)) * std + mean)
    else:
        assert_near(loaded(x), reconstruction(trainer, x * SCALE) / SCALE)
        assert_near(loaded.decode(loaded.encode(x)), loaded(x))
    torch.testing.assert_close(loaded.W_dec.norm(dim=-1), torch.ones(SHAPE.width))
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == INFERENCE.get(name, name)
    for parameter in ("step_sizes", "negative_threshold"):
        if hasattr(trainer.sae, parameter):
            assert len(getattr(loaded, parameter).unique()) > 1, f"{parameter} was not learned"


@torch.no_grad()
@pytest.mark.parametrize("name", BEYOND)
def test_flipping_a_latent_changes_only_what_goes_by_value(name: str, tmp_path: Path) -> None:
    trainer, x = trained(name), activations(300, seed=3)
    save_sae(trainer.sae, tmp_path / "before", scale=SCALE, metadata={})
    before = load_sae(tmp_path / "before")
    flipped = before.encode(x).abs().sum(0).topk(10).indices
    for weights in (trainer.sae.W_enc.T, trainer.sae.b_enc, trainer.sae.W_dec):
        weights[flipped] *= -1
    if name == "absjumprelu":
        above, below = trainer.sae.threshold, trainer.sae.negative_threshold
        above[flipped], below[flipped] = below[flipped], above[flipped]
    save_sae(trainer.sae, tmp_path / "after", scale=SCALE, metadata={})
    after = load_sae(tmp_path / "after")
    error = float((after(x) - before(x)).norm() / before(x).norm())
    if name in {"matryoshka", "signedtopk"}:
        assert error > 1e-2
    else:
        assert error < 1e-5
        codes, mirrored = before.encode(x), after.encode(x)
        mirrored[:, flipped] *= -1
        assert_near(mirrored, codes)
        assert bool((codes < 0).any()) and bool((codes > 0).any())


def trained_by_autograd(variant: Variant) -> sae_lens.TrainingSAE:
    """As `trained`, without the trainer, which may derive some variants' gradients in another order."""
    sae = variant.build(SHAPE, seed=1)
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-3)
    dead = torch.arange(SHAPE.width) < 30
    for step in range(50):
        batch = activations(256, seed=100 + step) * SCALE
        output = sae.training_forward_pass(TrainStepInput(batch, {}, dead, step, False))
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
    return sae


def test_one_step_is_abstopk_to_the_bit(tmp_path: Path) -> None:
    one, abstopk = (
        trained_by_autograd(v) for v in (get_variant("multistep", {"steps": 1}), get_variant("abstopk"))
    )
    assert one.state_dict().keys() - abstopk.state_dict().keys() == {"step_sizes"}
    for name, weights in abstopk.named_parameters():
        assert torch.equal(one.get_parameter(name), weights), name
    x = activations(500, seed=3)
    for sae, folder in ((one, "one"), (abstopk, "abstopk")):
        save_sae(sae, tmp_path / folder, scale=SCALE, metadata={})
    saved = [load_sae(tmp_path / folder) for folder in ("one", "abstopk")]
    assert torch.equal(saved[0].encode(x), saved[1].encode(x))
    assert torch.equal(saved[0](x), saved[1](x))


@torch.no_grad()
@pytest.mark.parametrize("steps", [2, 5])
def test_every_step_keeps_k_latents_and_learns_its_size(steps: int, tmp_path: Path) -> None:
    trainer = trained("multistep", {"steps": steps})
    assert trainer.sae.step_sizes.shape == (steps - 1,)
    start = (1 + (SHAPE.width / SHAPE.d_in) ** 0.5) ** -2
    assert bool(((trainer.sae.step_sizes - start).abs() > 1e-3).all())
    save_sae(trainer.sae, tmp_path, scale=SCALE, metadata={})
    codes = load_sae(tmp_path).encode(activations(300, seed=3))
    assert (codes != 0).sum(-1).tolist() == [SHAPE.k] * 300


@pytest.mark.parametrize("name", ["multistep", "signedtopk"])
def test_dead_latents_are_revived(name: str) -> None:
    def firing(weight: float) -> bool:
        trainer = SAETrainer(get_variant(name, {"aux_loss_coefficient": weight}), SHAPE, SPEC, seed=1)
        with torch.no_grad():
            trainer.sae.W_enc[:, :20] *= 0.01
        for step in range(SPEC.steps):
            trainer.train_on(activations(256, seed=100 + step) * SCALE)
        return bool((trainer.last_fired[:20] > 0).any())

    assert firing(1.0) and not firing(0.0)


def test_controller_brings_absjumprelu_to_k() -> None:
    _, history = train("absjumprelu", steps=1000)
    assert sum(history[-50:]) / 50 == pytest.approx(WIDE.k, rel=0.1)
    assert all(abs(l0 - WIDE.k) < 0.25 * WIDE.k for l0 in history[-200:]), "L0 still swings"


@torch.no_grad()
@pytest.mark.parametrize("name", ["matryoshka", "absmatryoshka"])
def test_calibrated_l0_is_k_on_unseen_tokens(name: str, tmp_path: Path) -> None:
    with torch.enable_grad():
        sae, _ = train(name, steps=60)
    seen, unseen = dictionary_samples(20_000, seed=7), dictionary_samples(20_000, seed=8)
    get_variant(name).calibrate(sae, seen, WIDE.k)
    save_sae(sae, tmp_path, scale=1, metadata={})
    loaded = load_sae(tmp_path)
    l0 = [float((loaded.encode(x) != 0).sum()) / len(x) for x in (seen, unseen)]
    assert l0 == [pytest.approx(WIDE.k, rel=1e-4), pytest.approx(WIDE.k, rel=0.01)]


def test_the_documented_variant_of_your_own_works(
    tmp_path: Path, ridge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_variants([ridge])["ridgetopk"].value
    assert found is not None
    module = sys.modules[found.__module__]
    monkeypatch.setitem(registry._variants, "ridgetopk", found)
    trainer, x = trained("ridgetopk", {"ridge": 0.5}), activations(300, seed=3)
    save_sae(trainer.sae, tmp_path / "sae", scale=SCALE, metadata={})
    with torch.no_grad():
        loaded = sae_lens.SAE.load_from_disk(tmp_path / "sae")
        assert loaded.cfg.ridge == 0.5
        assert_near(loaded(x), reconstruction(trainer, x * SCALE) / SCALE)
    u = vector([-3, 1, 2])
    assert module.ridge_top_k(u, 2, 0.5).tolist() == [-2, 0, pytest.approx(4 / 3)]
