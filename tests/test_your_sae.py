"""The worked cases of docs/your-sae.md, on SAEs that the other libraries' own trainers made."""

import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import Abench
from doc_blocks import run_all, texts
from foreign_saes import library
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from torch import Tensor

import abench as public
from abench.report import read_tidy
from abench.tinyworld import World

PAGE = "docs/your-sae.md"
SITE, D_IN, WIDTH, K = "blocks.2.hook_resid_post", 128, 256, 8
QUICK = ("--set", "evaluation.tokens=1280", "--set", "training.buffer_tokens=4096", "--limit", "40")


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Activations [tokens, 128] of the bundled model, shuffled."""
    texts = [document.text for document in World().reviews("train", 300)]
    found = public.activations_of(public.LanguageModel.load("tiny"), texts, SITE)
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]


@pytest.fixture(scope="module")
def place(x: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the SAEs that the page names."""
    folder = tmp_path_factory.mktemp("your-sae")
    train_with_sae_lens(x, folder / "my-saelens-sae")
    return folder


def batches(x: Tensor, size: int = 512) -> Iterator[Tensor]:
    while True:
        yield from torch.split(x, size)


def train_with_sae_lens(x: Tensor, folder: Path) -> None:
    config = TopKTrainingSAEConfig(
        d_in=D_IN, d_sae=WIDTH, k=K, normalize_activations="expected_average_only_in"
    )
    config.metadata.model_name, config.metadata.hook_name = "tiny", SITE
    config.metadata.context_size, config.metadata.prepend_bos = 64, True
    torch.manual_seed(0)
    settings = SAETrainerConfig(
        total_training_samples=512 * 40,
        train_batch_size_samples=512,
        n_checkpoints=0,
        checkpoint_path=None,
        n_batches_for_norm_estimate=4,
        lr=1e-3,
        lr_end=1e-3,
    )
    SAETrainer(settings, TopKTrainingSAE(config), batches(x)).fit().save_inference_model(folder)


def test_a_class_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = texts(PAGE, "python")
    names: dict[str, object] = {}
    small = block.replace('sparse_probing"]', 'sparse_probing"], evaluation={"tokens": 1280, "limit": 40}')
    assert small != block
    exec(small, names)
    shown = re.search(r"^scores  # (.*)$", block, re.MULTILINE)
    assert shown and repr(names["scores"]) == shown[1]
    assert (tmp_path / "my-report" / "index.html").is_file()


def test_an_sae_that_sae_lens_trained(place: Path, abench: Abench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    first, second = texts(PAGE, "bash")[:2]
    printed = run_all(abench, first, *QUICK)
    assert "my-saelens-sae" in printed and f"tiny, {SITE}" in printed
    frame = read_tidy(Path("results/reports/default/data.csv"))
    own = frame.set_index("metric")["value"]
    assert own["l0"] == pytest.approx(K) and own["explained_variance"] > 0.1
    printed = run_all(abench, second, *QUICK)
    assert "my-saelens-sae" in printed and "AbsTopK" in printed


def test_an_sae_that_dictionary_learning_trained(
    x: Tensor, tmp_path: Path, abench: Abench, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = library("dictionary_learning.training")
    top_k = importlib.import_module("dictionary_learning.trainers.top_k")
    config = {
        "trainer": top_k.TopKTrainer, "dict_class": top_k.AutoEncoderTopK, "activation_dim": D_IN,
        "dict_size": WIDTH, "k": K, "lr": 1e-3, "layer": 2, "lm_name": "tiny", "steps": 40, "warmup_steps": 0,
        "device": "cpu", "seed": 0, "submodule_name": "resid_post_layer_2",
    }  # fmt: skip
    folder = tmp_path / "my-dictionary"
    training.trainSAE(batches(x), [config], 40, save_dir=str(folder), device="cpu")
    monkeypatch.chdir(tmp_path)
    printed = run_all(abench, texts(PAGE, "bash")[2], *QUICK, "--set", "context=64")
    assert f"tiny, {SITE}" in printed and "trainer_0" in printed


def test_a_new_variant(tmp_path: Path, abench: Abench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_all(abench, texts(PAGE, "bash")[3], *QUICK)
    assert "Ridge" in printed and "AbsTopK" in printed
    shutil.rmtree(tmp_path / "results")
