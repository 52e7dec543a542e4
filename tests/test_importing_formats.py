"""sparsify's folders, the checkpoints of the paper's repository, and abench's own results."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_saes import D_IN, WIDTH, K, activations, assert_same, library
from safetensors.torch import save_file
from small_run import small_plan
from torch import Tensor

from abench.errors import UserError
from abench.importing import read_sae
from abench.latents.encoders import rule_of
from abench.results.store import Store
from abench.runs.runner import run_plan
from abench.variants import load_sae


def sparse_coder(**options: Any) -> Any:
    """sparsify's own SAE with random weights and biases."""
    sparsify = library("sparsify")
    torch.manual_seed(0)
    coder = sparsify.SparseCoder(D_IN, sparsify.SparseCoderConfig(num_latents=WIDTH, k=K, **options))
    with torch.no_grad():
        coder.encoder.bias.normal_(std=0.1)
        coder.b_dec.normal_()
    return coder


@pytest.mark.parametrize("normalize_decoder", [True, False])
def test_sparsify_gives_what_the_library_gives(normalize_decoder: bool, tmp_path: Path) -> None:
    theirs, x = sparse_coder(normalize_decoder=normalize_decoder), activations()
    theirs.save_to_disk(tmp_path / "run" / "layers.2.mlp")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"model": "tiny", "ctx_len": 64}))
    imported = read_sae(tmp_path / "run" / "layers.2.mlp")
    ours = imported.load()
    with torch.no_grad():
        top = theirs.encode(x)
        codes = torch.zeros(len(x), WIDTH).scatter(-1, top.top_indices, top.top_acts)
        assert_same(ours, codes, theirs.decode(top.top_acts, top.top_indices), x)
    assert rule_of(ours) is not None
    assert (imported.format, imported.name, imported.k) == ("sparsify", "layers.2.mlp", K)
    assert (imported.site, imported.model, imported.context) == ("blocks.2.hook_mlp_out", "tiny", 64)


def test_weights_in_half_precision_are_computed_in_float32(tmp_path: Path) -> None:
    theirs, x = sparse_coder().to(torch.bfloat16), activations()
    theirs.save_to_disk(tmp_path / "layers.2")
    imported = read_sae(tmp_path / "layers.2")
    with torch.no_grad():
        top = theirs.to(torch.float32).encode(x)
        codes = torch.zeros(len(x), WIDTH).scatter(-1, top.top_indices, top.top_acts)
        assert_same(imported.load(), codes, theirs.decode(top.top_acts, top.top_indices), x)
    assert "Its weights are bfloat16; abench computes in float32." in imported.notes


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"transcode": True}, "is a transcoder"),
        ({"activation": "groupmax"}, "the activation 'groupmax' encodes"),
    ],
)
def test_what_sparsify_has_beyond_saes_is_refused(options: Any, sentence: str, tmp_path: Path) -> None:
    sparse_coder(**options).save_to_disk(tmp_path)
    with pytest.raises(UserError, match=sentence):
        read_sae(tmp_path)


def paper_checkpoint(folder: Path, sae_name: str, step: int = 100, **changes: Any) -> dict[str, Tensor]:
    """A checkpoint with the names, shapes and configuration that the paper's repository saves."""
    torch.manual_seed(0)
    weights = {
        "b_dec": torch.randn(D_IN),
        "b_enc": torch.randn(WIDTH) * 0.1,
        "W_enc": torch.randn(D_IN, WIDTH),
        "W_dec": torch.nn.functional.normalize(torch.randn(WIDTH, D_IN)),
    }
    if sae_name == "jumprelu":
        weights["jumprelu.log_threshold"] = torch.rand(WIDTH)
    config = {
        "sae_name": sae_name,
        "k": K,
        "act_size": D_IN,
        "dict_size": WIDTH,
        "hook_point": "blocks.3.hook_resid_post",
        "layer": 3,
        "model_name": "tiny",
        "seq_len": 128,
        "input_unit_norm": True,
        "dtype": "torch.bfloat16",
        "name": f"tiny_{sae_name}",
    }
    save_file(weights, folder / f"sae_{step}.safetensors")
    (folder / f"config_{step}.json").write_text(json.dumps(config | changes))
    return weights


def paper_output(weights: dict[str, Tensor], sae_name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and output as the paper states them for single tokens (facts of its code: standardised input)."""
    mean, std = x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)
    z = (x - mean) / (std + 1e-5)
    if sae_name == "jumprelu":
        u = z @ weights["W_enc"] + weights["b_enc"]
        codes = u * (u > weights["jumprelu.log_threshold"].exp())
    else:
        u = (z - weights["b_dec"]) @ weights["W_enc"]
        u = u if sae_name == "batchabsolutek" else u.relu()
        kept = u.abs().topk(K, dim=-1).indices
        codes = torch.zeros_like(u).scatter(-1, kept, u.gather(-1, kept))
    return codes, (codes @ weights["W_dec"] + weights["b_dec"]) * std + mean


@pytest.mark.parametrize(
    "sae_name, sae_class, signed",
    [
        ("batchabsolutek", "AbsTopKSAE", True),
        ("batchtopk", "TopKSAE", False),
        ("jumprelu", "JumpReLUSAE", False),
    ],
)
def test_the_papers_checkpoints(sae_name: str, sae_class: str, signed: bool, tmp_path: Path) -> None:
    weights, x = paper_checkpoint(tmp_path, sae_name), activations()
    imported = read_sae(tmp_path)
    assert_same(imported.load(), *paper_output(weights, sae_name, x), x)
    assert (imported.format, imported.name) == ("abstopk-paper", f"tiny_{sae_name}_100")
    assert (imported.sae_class, imported.signed) == (sae_class, signed)
    assert (imported.site, imported.context) == ("blocks.3.hook_resid_post", 128)
    assert imported.normalisation == "layer_norm"
    assert ("batches of one token" in " ".join(imported.notes)) == (sae_name != "jumprelu")


def test_one_of_several_checkpoints_is_given_by_its_file(tmp_path: Path) -> None:
    paper_checkpoint(tmp_path, "batchtopk", step=100)
    paper_checkpoint(tmp_path, "batchabsolutek", step=200)
    with pytest.raises(
        UserError, match=r"holds 2 checkpoints; give the file of one: sae_100\.safetensors, sae_200"
    ):
        read_sae(tmp_path)
    assert read_sae(tmp_path / "sae_200.safetensors").sae_class == "AbsTopKSAE"


def test_an_sae_of_the_paper_that_is_not_known(tmp_path: Path) -> None:
    paper_checkpoint(tmp_path, "gated")
    with pytest.raises(UserError, match="how the paper's SAEs 'gated' encode; known: batchabsolutek, "):
        read_sae(tmp_path)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two trained SAEs."""
    folder = tmp_path_factory.mktemp("results")
    run_plan(small_plan(variants=("abstopk", "relu")), Store.open(folder, create=True))
    return folder


def test_saes_of_another_results_folder(results: Path) -> None:
    folders = {mark.parent.name.split("_")[0]: mark.parent for mark in results.glob("saes/*/*/*/sae.json")}
    x = activations(d_in=128)
    for variant, sae_class in (("abstopk", "AbsTopKSAE"), ("relu", "StandardSAE")):
        imported, trained = read_sae(folders[variant]), load_sae(folders[variant])
        with torch.no_grad():
            codes = trained.encode(x)
            assert_same(imported.load(), codes, trained.decode(codes), x)
        assert (imported.format, imported.sae_class) == ("abench", sae_class)
        assert imported.name.startswith(f"{variant}_k4_w64_s")
        assert (imported.model, imported.k, imported.context) == ("tiny", 4, 32)
        assert imported.site is not None
        assert imported.site.endswith("hook_resid_post")


def test_a_whole_results_folder_names_the_saes_in_it(results: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds several SAEs, so give the folder of one: saes/tiny/\S+/abstopk_"
    ):
        read_sae(results)


def test_damaged_results_are_not_read(results: Path, tmp_path: Path) -> None:
    (whole,) = results.glob("saes/*/*/abstopk*")
    folder = Path(shutil.copytree(whole, tmp_path / "sae"))
    (folder / "cfg.json").write_text("{}")
    with pytest.raises(UserError, match=r"cfg\.json is damaged"):
        read_sae(folder)
