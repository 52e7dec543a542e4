"""sae-lens's folders: every architecture of its registry gives the same codes and reconstructions."""

import json
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from command import Abench
from foreign_saes import (
    D_IN,
    WIDTH,
    K,
    activations,
    assert_same,
    saelens_sae,
    saved,
    scorable_architectures,
)
from sae_lens import SAETrainer
from sae_lens.config import SAETrainerConfig
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file

from abench.errors import UserError
from abench.importing import read_sae
from abench.latents.encoders import rule_of

WITH_K = [*(name for name in SAE_TRAINING_CLASS_REGISTRY if "topk" in name), "multistep", "absmatryoshka"]
TRAINING_OPTIONS: dict[str, dict[str, Any]] = {name: {"k": K} for name in WITH_K}
TRAINING_OPTIONS["matching_pursuit"] = {"decoder_init_norm": 1.0}
for nested in ("matryoshka_batchtopk", "absmatryoshka"):
    TRAINING_OPTIONS[nested]["matryoshka_widths"] = [WIDTH // 2, WIDTH]


@pytest.mark.parametrize("architecture", scorable_architectures())
def test_every_architecture_gives_what_sae_lens_gives(architecture: str, tmp_path: Path) -> None:
    theirs = saelens_sae(architecture)
    imported = read_sae(saved(theirs, tmp_path / "sae"))
    ours, x = imported.load("cpu"), activations()
    with torch.no_grad():
        codes = theirs.encode(x)
        assert_same(ours, codes, theirs.decode(codes), x)
    assert type(ours) is type(theirs)
    assert imported.signed or not (codes < 0).any()
    assert (imported.d_in, imported.width, imported.format) == (D_IN, WIDTH, "sae-lens")
    assert (imported.site, imported.model) == ("blocks.2.hook_resid_post", "tiny")
    assert (imported.context, imported.prepends_bos) == (64, True)
    assert imported.k == (K if architecture in ("topk", "abstopk", "signedtopk", "multistep") else None)


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_normalisation_of_tokens_is_kept(kind: str, tmp_path: Path) -> None:
    theirs = saelens_sae("topk", normalize_activations=kind)
    imported = read_sae(saved(theirs, tmp_path))
    x = activations()
    with torch.no_grad():
        codes = theirs.encode(x)
        assert_same(imported.load(), codes, theirs.decode(codes), x)
    assert imported.normalisation == kind


def test_a_class_with_fast_routines_keeps_them(tmp_path: Path) -> None:
    ours = read_sae(saved(saelens_sae("abstopk"), tmp_path)).load()
    assert rule_of(ours) is not None


NORMALISATIONS = ["none", "expected_average_only_in", "covariance_whitening"]


@pytest.mark.parametrize("kind", NORMALISATIONS)
@pytest.mark.parametrize("architecture", SAE_TRAINING_CLASS_REGISTRY)
def test_what_sae_lens_trained(architecture: str, kind: str, tmp_path: Path) -> None:
    if architecture == "matching_pursuit" and kind == "covariance_whitening":
        kind = "none"  # sae-lens cannot fold whitening into tied weights
    trained_by_sae_lens(architecture, kind, tmp_path)
    final, x = sae_lens.SAE.load_from_disk(tmp_path / "final"), activations()
    imported = read_sae(tmp_path / "final")
    with torch.no_grad():
        codes = final.encode(x)
        assert_same(imported.load(), codes, final.decode(codes), x)
    # Of the checkpoint sae-lens itself makes the final SAE by folding, then saving it for inference.
    (checkpoint,) = (path for path in tmp_path.iterdir() if path.name.isdecimal())
    training, scaler = sae_lens.TrainingSAE.load_from_disk(checkpoint), ActivationScaler()
    scaler.load(checkpoint / "activation_scaler.json")
    if scaler.whitening is not None:
        whitening = scaler.whitening
        training.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
    elif scaler.scaling_factor is not None:
        training.fold_activation_norm_scaling_factor(scaler.scaling_factor)
    training.save_inference_model(tmp_path / "folded")
    folded, imported = sae_lens.SAE.load_from_disk(tmp_path / "folded"), read_sae(checkpoint)
    ours = imported.load()
    with torch.no_grad():
        expected, output = folded.decode(folded.encode(x)), ours.decode(ours.encode(x))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)
    assert (kind == "none") == (not imported.notes)
    assert imported.k == TRAINING_OPTIONS.get(architecture, {}).get("k")


def trained_by_sae_lens(architecture: str, kind: str, folder: Path) -> None:
    """Writes `final` and one checkpoint with sae-lens's own trainer."""
    sae_class, config_class = SAE_TRAINING_CLASS_REGISTRY[architecture]
    config = config_class(
        d_in=D_IN, d_sae=WIDTH, normalize_activations=kind, **TRAINING_OPTIONS.get(architecture, {})
    )
    settings = SAETrainerConfig(
        total_training_samples=512,
        train_batch_size_samples=64,
        n_checkpoints=1,
        checkpoint_path=str(folder),
        n_batches_for_norm_estimate=4,
        lr=1e-2,
        lr_end=1e-2,
    )
    batches = (activations(64, seed=step) * 3 for step in count())
    with torch.enable_grad():
        torch.manual_seed(0)
        SAETrainer(settings, sae_class(config), batches).fit().save_inference_model(folder / "final")


def test_a_scale_that_the_files_do_not_state_is_reported(tmp_path: Path) -> None:
    imported = read_sae(
        saved(saelens_sae("topk", normalize_activations="expected_average_only_in"), tmp_path)
    )
    assert "scaled to an average norm of √d_in, and its files do not state how" in imported.notes[0]


def test_a_configuration_of_sae_lens_5(tmp_path: Path) -> None:
    theirs = saelens_sae("topk")
    saved(theirs, tmp_path)
    old = {
        "d_in": D_IN,
        "d_sae": WIDTH,
        "dtype": "torch.float32",
        "hook_point": "blocks.{layer}.hook_resid_pre",
        "hook_point_layer": 3,
        "model_name": "tiny",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": K},
        "normalize_activations": False,
        "context_size": 32,
    }
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    imported, x = read_sae(tmp_path), activations()
    with torch.no_grad():
        codes = theirs.encode(x)
        assert_same(imported.load(), codes, theirs.decode(codes), x)
    assert (imported.site, imported.k, imported.context) == ("blocks.2.hook_resid_post", K, 32)
    assert "The residual stream before block 3 is blocks.2.hook_resid_post." in imported.notes


def test_the_identity_is_that_of_weights_and_configuration(tmp_path: Path) -> None:
    here = saved(saelens_sae("topk"), tmp_path / "here")
    there = Path(shutil.copytree(here, tmp_path / "there"))
    identity = read_sae(here).identity
    assert len(identity) == 64
    assert read_sae(there / "sae_weights.safetensors").identity == identity
    config = json.loads((there / "cfg.json").read_text())
    (there / "cfg.json").write_text(json.dumps(config | {"device": "cuda"}))
    assert read_sae(there).identity == identity
    (there / "cfg.json").write_text(json.dumps(config | {"k": K - 1}))
    assert read_sae(there).identity != identity
    (there / "cfg.json").write_text(json.dumps(config))
    weights = load_file(there / "sae_weights.safetensors")
    weights["b_dec"][0] += 1
    save_file(weights, there / "sae_weights.safetensors")
    imported = read_sae(there)
    assert imported.identity != identity
    shutil.copy(here / "sae_weights.safetensors", there)
    with pytest.raises(UserError, match="changed after it was read"):
        imported.load()


@pytest.mark.parametrize("architecture", sorted(set(SAE_CLASS_REGISTRY) - set(scorable_architectures())))
def test_what_abench_cannot_score_is_refused_with_the_reason(architecture: str, tmp_path: Path) -> None:
    config = {"architecture": architecture, "d_in": D_IN, "d_sae": WIDTH, "dtype": "float32", "device": "cpu"}
    (tmp_path / "cfg.json").write_text(json.dumps(config | {"metadata": {"sae_lens_version": "6.54.12"}}))
    save_file({"W_enc": torch.zeros(D_IN, WIDTH)}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(UserError, match=r"is a transcoder|tokens before it"):
        read_sae(tmp_path)


def test_import_prints_what_was_understood(tmp_path: Path, abench: Abench) -> None:
    folder = saved(saelens_sae("abstopk"), tmp_path / "mine")
    printed = abench("import", folder, "--json")
    facts = json.loads(printed.out)
    identity = facts.pop("identity")
    assert len(identity) == 64
    assert facts == {
        "name": "mine",
        "format": "sae-lens",
        "class": "AbsTopKSAE",
        "d_in": D_IN,
        "width": WIDTH,
        "k": K,
        "l0": None,
        "site": "blocks.2.hook_resid_post",
        "model": "tiny",
        "context": 64,
        "prepends_bos": True,
        "normalisation": "none",
        "signed": True,
        "folded_norms": False,
        "notes": [],
    }
