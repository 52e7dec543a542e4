"""sae-lens's folders: every architecture of its registry gives the same codes and reconstructions."""

import json
import shutil
from pathlib import Path

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
from sae_lens.registry import SAE_CLASS_REGISTRY
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import load_file, save_file

from abench.errors import UserError
from abench.importing import read_sae
from abench.latents.encoders import rule_of


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


def test_a_checkpoint_of_training_becomes_the_inference_class(tmp_path: Path) -> None:
    config = sae_lens.BatchTopKTrainingSAEConfig(d_in=D_IN, d_sae=WIDTH, k=K)
    torch.manual_seed(0)
    training = sae_lens.BatchTopKTrainingSAE(config)
    training.topk_threshold += 0.02
    training.save_model(tmp_path / "checkpoint")
    training.save_inference_model(tmp_path / "final")
    theirs, x = sae_lens.SAE.load_from_disk(tmp_path / "final"), activations()
    imported = read_sae(tmp_path / "checkpoint")
    with torch.no_grad():
        codes = theirs.encode(x)
        assert_same(imported.load(), codes, theirs.decode(codes), x)
    assert (imported.sae_class, imported.k) == ("JumpReLUSAE", K)


def test_the_scale_of_a_checkpoint_is_folded(tmp_path: Path) -> None:
    theirs = saelens_sae("topk", normalize_activations="expected_average_only_in")
    saved(theirs, tmp_path)
    without = read_sae(tmp_path)
    assert "do not state the factor" in " ".join(without.notes)
    ActivationScaler(scaling_factor=2.5).save(str(tmp_path / "activation_scaler.json"))
    imported, x = read_sae(tmp_path), activations()
    with torch.no_grad():
        codes = theirs.encode(x * 2.5)
        assert_same(imported.load(), codes, theirs.decode(codes) / 2.5, x)
    assert imported.identity != without.identity


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
