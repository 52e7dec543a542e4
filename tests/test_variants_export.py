"""A saved SAE, opened by sae-lens alone, gives what the trained one gave on scaled inputs."""

import importlib
import json
from pathlib import Path

import pytest
import sae_lens
import torch
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor

from abench import variants
from abench.errors import UserError
from abench.variants import L0Controller, SAEShape, get_variant, load_sae, save_sae, variant_names
from abench.variants.calibration import rescaled_pre_activations

SHAPE = SAEShape(d_in=24, width=96, k=8)
SCALE = 3.7
METADATA = {
    "model_name": "tiny",
    "hook_name": "blocks.2.hook_resid_post",
    "context_size": 64,
    "prepend_bos": True,
}


def activations(n: int, seed: int) -> Tensor:
    """Raw activations with structure and a mean; times SCALE their norm is about √d_in."""
    fixed, fresh = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    directions, mean = torch.randn(60, SHAPE.d_in, generator=fixed), torch.randn(SHAPE.d_in, generator=fixed)
    active = torch.rand(n, 60, generator=fresh) < 0.08
    x: Tensor = (active * torch.randn(n, 60, generator=fresh)) @ directions + mean
    return x / 2.4 / SCALE


@torch.enable_grad()
def trained(name: str, seed: int = 1) -> sae_lens.TrainingSAE:
    """An SAE after 50 steps on scaled activations, calibrated."""
    variant = get_variant(name)
    sae, controller = variant.build(SHAPE, seed), L0Controller.for_variant(variant, SHAPE)
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-3)
    for step in range(50):
        coefficients = controller.coefficients() if controller else {}
        batch = activations(256, seed=100 + step) * SCALE
        output = sae.training_forward_pass(TrainStepInput(batch, coefficients, None, step, False))
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        if controller:
            controller.update(float((output.feature_acts != 0).sum()) / 256)
    variant.calibrate(sae, activations(2000, seed=2) * SCALE, SHAPE.k)
    return sae


def latents_of(sae: sae_lens.TrainingSAE, scaled: Tensor) -> Tensor:
    """The training SAE's latents; batch-level types through their threshold, as inference has it."""
    if not hasattr(sae, "topk_threshold"):
        latents: Tensor = sae.encode(scaled)
        return latents
    pre = torch.cat(list(rescaled_pre_activations(sae, scaled)))
    sizes = pre.abs() if sae.cfg.architecture() in {"batchabstopk", "absmatryoshka"} else pre
    return torch.where(sizes > sae.topk_threshold, pre, 0)


def assert_near(actual: Tensor, expected: Tensor) -> None:
    assert float((actual - expected).norm() / expected.norm()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", variant_names())
def test_sae_lens_opens_what_was_trained(name: str, tmp_path: Path) -> None:
    sae, x = trained(name), activations(500, seed=3)
    before = {key: value.clone() for key, value in sae.state_dict().items()}
    save_sae(sae, tmp_path, scale=SCALE, metadata=METADATA)
    loaded = sae_lens.SAE.load_from_disk(tmp_path)

    latents = latents_of(sae, x * SCALE)
    assert 0 < int((latents != 0).sum()) < latents.numel()
    if name != "signedtopk":  # its latents are negative only where fewer than k are positive
        assert bool((latents < 0).any()) == get_variant(name).signed
    assert_near(loaded(x), sae.decode(latents) / SCALE)
    rescaled = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    assert_near(loaded.encode(x), latents * (1 if rescaled else sae.W_dec.norm(dim=-1)) / SCALE)
    torch.testing.assert_close(loaded.W_dec.norm(dim=-1), torch.ones(SHAPE.width))

    assert all(torch.equal(sae.state_dict()[key], before[key]) for key in before), "saving changed the SAE"
    assert sae.cfg.metadata.model_name is None
    assert {key: loaded.cfg.metadata[key] for key in METADATA} == METADATA
    assert loaded.cfg.metadata.abench_version and loaded.cfg.normalize_activations == "none"


@torch.no_grad()
def test_layer_norm_is_done_by_the_saved_sae(tmp_path: Path) -> None:
    sae, x = trained("batchabstopk"), activations(500, seed=3)
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    normed = (x - mean) / (std + 1e-5)
    save_sae(sae, tmp_path, scale=1.0, metadata={}, layer_norm=True)
    loaded = load_sae(tmp_path)
    assert loaded.cfg.normalize_activations == "layer_norm"
    assert_near(loaded(x), sae.decode(latents_of(sae, normed)) * std + mean)


@torch.no_grad()
@pytest.mark.parametrize("name", ["abstopk", "batchabstopk", "topk"])
def test_only_signed_variants_survive_a_flip_of_sign(name: str, tmp_path: Path) -> None:
    sae, x = trained(name), activations(300, seed=3)
    save_sae(sae, tmp_path / "before", scale=SCALE, metadata={})
    flipped = latents_of(sae, x * SCALE).abs().sum(0).topk(10).indices
    sae.W_enc[:, flipped] *= -1
    sae.b_enc[flipped] *= -1
    sae.W_dec[flipped] *= -1
    save_sae(sae, tmp_path / "after", scale=SCALE, metadata={})
    before, after = load_sae(tmp_path / "before"), load_sae(tmp_path / "after")
    error = float((after(x) - before(x)).norm() / before(x).norm())
    assert error < 1e-5 if get_variant(name).signed else error > 1e-2


def test_broken_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no SAE in .*cfg\.json is missing"):
        load_sae(tmp_path)
    save_sae(trained("topk"), tmp_path, scale=SCALE, metadata={})
    config, weights = tmp_path / "cfg.json", tmp_path / "sae_weights.safetensors"
    whole, content = weights.read_bytes(), json.loads(config.read_text())

    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"sae_weights\.safetensors is damaged or incomplete"):
        load_sae(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match=r"sae_weights\.safetensors is missing"):
        load_sae(tmp_path)
    weights.write_bytes(whole)
    config.write_text(json.dumps({**content, "architecture": "abstopkk"}))
    with pytest.raises(UserError, match="unknown architecture 'abstopkk'; did you mean 'abstopk'"):
        load_sae(tmp_path)
    config.write_text(json.dumps({**content, "architecture": "gated"}))
    with pytest.raises(UserError, match="cannot be loaded on cpu"):
        load_sae(tmp_path)
    config.write_text('{"architecture":')
    with pytest.raises(UserError, match=r"cfg\.json is not an SAE's configuration"):
        load_sae(tmp_path)
    config.write_text(json.dumps(content))
    assert load_sae(tmp_path).cfg.d_sae == SHAPE.width


def test_registration_with_sae_lens_survives_a_reload(tmp_path: Path) -> None:
    from abench.variants import batchabstopk_sae

    importlib.reload(batchabstopk_sae)
    importlib.reload(variants.batchabstopk)
    sae = variants.batchabstopk.BatchAbsTopK().build(SHAPE, seed=1)
    save_sae(sae, tmp_path, scale=1.0, metadata={})
    assert isinstance(sae_lens.SAE.load_from_disk(tmp_path), batchabstopk_sae.BatchAbsTopKSAE)
