"""What dictionary_learning's own trainers write gives the same codes and reconstructions in abench."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_saes import D_IN, WIDTH, K, activations, assert_same, library

from abench.errors import UserError
from abench.importing import read_sae
from abench.latents.encoders import rule_of

STEPS = 12
NO_WARMUP: dict[str, Any] = {"sparsity_warmup_steps": None}
TRAINERS: dict[str, dict[str, Any]] = {
    "standard.StandardTrainer": NO_WARMUP,
    "standard.StandardTrainerAprilUpdate": NO_WARMUP,
    "p_anneal.PAnnealTrainer": NO_WARMUP,
    "gdm.GatedSAETrainer": NO_WARMUP,
    "jumprelu.JumpReluTrainer": {"target_l0": K, "bandwidth": 0.5, **NO_WARMUP},
    "top_k.TopKTrainer": {"k": K},
    "batch_top_k.BatchTopKTrainer": {"k": K, "threshold_start_step": 2},
    "matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer": {
        "k": K,
        "threshold_start_step": 2,
        "group_fractions": [0.25, 0.75],
    },
}
"""A trainer of the library -> its options; by name, because the library may be missing."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the library's own `trainSAE` writes: trainer_0, trainer_1, ..."""
    training = library("dictionary_learning.training")
    folder = tmp_path_factory.mktemp("dictionary_learning")
    common = {
        "steps": STEPS,
        "activation_dim": D_IN,
        "dict_size": WIDTH,
        "layer": 2,
        "lm_name": "tiny",
        "device": "cpu",
        "warmup_steps": 1,
        "submodule_name": "resid_post_layer_2",
    }
    configs = []
    for name, options in TRAINERS.items():
        module, trainer = name.split(".")
        trainer_class = getattr(library(f"dictionary_learning.trainers.{module}"), trainer)
        configs.append({"trainer": trainer_class, **common, **options})
    batches = [activations(64, seed=step) for step in range(STEPS + 1)]
    with torch.enable_grad():
        training.trainSAE(batches, configs, STEPS, save_dir=str(folder), device="cpu")
    return folder


@pytest.mark.parametrize("trainer", TRAINERS)
def test_each_trainer_gives_what_the_library_gives(trainer: str, trained: Path) -> None:
    folder = trained / f"trainer_{list(TRAINERS).index(trainer)}"
    theirs, _ = library("dictionary_learning.utils").load_dictionary(str(folder), device="cpu")
    imported, x = read_sae(folder), activations()
    ours = imported.load()
    with torch.no_grad():
        codes = theirs.encode(x)
        assert_same(ours, codes, theirs.decode(codes), x)
    assert rule_of(ours) is not None
    assert (imported.format, imported.d_in, imported.width) == ("dictionary_learning", D_IN, WIDTH)
    assert (imported.site, imported.model, imported.signed) == ("blocks.2.hook_resid_post", "tiny", False)
    assert imported.k == (K if {"k", "target_l0"} & set(TRAINERS[trainer]) else None)


def test_the_dictionary_whose_encoder_subtracts_no_bias(tmp_path: Path) -> None:
    theirs = library("dictionary_learning.dictionary").AutoEncoderNew(D_IN, WIDTH)
    with torch.no_grad():
        theirs.encoder.bias.normal_()
        theirs.decoder.bias.normal_()
    write(tmp_path, theirs.state_dict(), dict_class="AutoEncoderNew")
    x = activations()
    with torch.no_grad():
        codes = theirs.encode(x)
        assert_same(read_sae(tmp_path).load(), codes, theirs.decode(codes), x)


def test_a_checkpoint_is_read_with_the_configuration_above_it(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "trainer_5", tmp_path / "trainer_5"))
    (folder / "checkpoints").mkdir()
    (folder / "ae.pt").rename(folder / "checkpoints" / "ae_8.pt")
    imported = read_sae(folder / "checkpoints" / "ae_8.pt")
    assert (imported.sae_class, imported.name) == ("TopKSAE", "checkpoints_ae_8")


def state(k: int = K, **changes: Any) -> dict[str, Any]:
    """The state dict of an `AutoEncoderTopK`."""
    torch.manual_seed(0)
    return {
        "encoder.weight": torch.randn(WIDTH, D_IN),
        "encoder.bias": torch.zeros(WIDTH),
        "decoder.weight": torch.randn(D_IN, WIDTH),
        "b_dec": torch.zeros(D_IN),
        "k": torch.tensor(k),
        "threshold": torch.tensor(-1.0),
    } | changes


def write(folder: Path, weights: Any, buffer: dict[str, Any] | None = None, **trainer: Any) -> Path:
    """A folder as the library writes it."""
    stated = {"dict_class": "AutoEncoderTopK", "k": K, "layer": 2, "lm_name": "tiny"} | trainer
    torch.save(weights, folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": stated, "buffer": buffer or {}}))
    return folder


def test_what_the_buffer_states(tmp_path: Path) -> None:
    imported = read_sae(write(tmp_path, state(), {"ctx_len": 64, "io": "in"}))
    assert (imported.context, imported.site) == (64, "blocks.1.hook_resid_post")
    assert imported.notes == ("The residual stream before block 2 is blocks.1.hook_resid_post.",)
    imported = read_sae(write(tmp_path, state(), {"io": "out"}, submodule_name="mlp_out_layer_3"))
    assert imported.site == "blocks.3.hook_mlp_out"


def test_a_threshold_that_was_never_set_is_reported(tmp_path: Path) -> None:
    imported = read_sae(write(tmp_path, state(), dict_class="BatchTopKSAE"))
    assert "all positive latents are active" in imported.notes[0]


class Unsafe:
    """What reading a pickle could run."""

    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('this ran')",))


TRANSPOSED = {"encoder.weight": torch.zeros(D_IN, WIDTH)}
BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "code": (Unsafe(), {}, r"ae\.pt holds more than tensors, and reading it could run code"),
    "list": ([torch.zeros(2)], {}, r"ae\.pt is not a state dict: it holds list"),
    "text": (state() | {"note": "x"}, {}, r"is not a state dict: 'note' in it is str"),
    "transposed": (
        state(**TRANSPOSED),
        {"activation_dim": D_IN, "dict_size": WIDTH},
        r"encoder\.weight \(read as W_enc\) is transposed: it is \[96, 24\] and must be \[24, 96\]",
    ),
    "nan": (state(b_dec=torch.full((D_IN,), torch.nan)), {}, r"24 of 24 values of b_dec are NaN or infinite"),
    "d_in": (
        state(),
        {"activation_dim": 16},
        r"W_dec\) is \[96, 24\], but by the configuration it must be \[96, 16\]",
    ),
    "class": (
        state(),
        {"dict_class": "BatchTopkSAE"},
        r"TopkSAE encodes; did you mean 'BatchTop",
    ),
    "other class": (
        state(),
        {"dict_class": "GatedAutoEncoder"},
        r"has no tensor 'decoder_bias'; did",
    ),
    "extra": (
        state(extra=torch.zeros(1)),
        {},
        r"a tensor 'extra', which an SAE of its",
    ),
    "k": (state(), {"k": 97}, r"k must be a whole number between 1 and the 96 latents, but it is 97"),
}


@pytest.mark.parametrize("weights, trainer, sentence", BAD.values(), ids=BAD)
def test_bad_files(weights: Any, trainer: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    write(tmp_path, weights, **trainer)
    with pytest.raises(UserError, match=sentence):
        read_sae(tmp_path)


def test_what_is_missing_or_cut_off(tmp_path: Path) -> None:
    write(tmp_path, state(), {"io": "in_and_out"})
    with pytest.raises(UserError, match="is a transcoder"):
        read_sae(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json, which states the class"):
        read_sae(tmp_path)
    write(tmp_path, state())
    whole = (tmp_path / "ae.pt").read_bytes()
    (tmp_path / "ae.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"ae\.pt is damaged or incomplete"):
        read_sae(tmp_path)
