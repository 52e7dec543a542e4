"""SAEs on a stand-in hub: repositories, releases of sae-lens's directory, and no network."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_saes import D_IN, WIDTH, K, saelens_sae, saved
from hub.client import ask, client_environment
from hub.repository import Commit, Repository
from hub.server import Hub
from safetensors.torch import save_file

from abench.errors import UserError
from abench.importing import read_sae

pytestmark = pytest.mark.slow

RELEASE, SAE_ID = "gpt2-small-res-jb", "blocks.6.hook_resid_pre"
REPOSITORY = "jbloom/GPT2-Small-SAEs-Reformatted"
TRANSCODERS = "gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76"
WRONG = {
    "somebody/several": "several SAEs, so give the folder of one: somebody/several/layers.2, ",
    "somebody/several/layers.22": "did you mean 'somebody/several/layers.2'",
    "somebody/nothing": "the hub has no repository 'somebody/nothing'",
    "somebody/text": "somebody/text on the hub holds no SAE in a known format",
    "somebody/gated": "somebody/gated is gated: accept its licence on the hub and set HF_TOKEN",
    f"{RELEASE}/blocks.6.hook_resid_pree": f"has no SAE 'blocks.6.hook_resid_pree'; did you mean '{RELEASE}/",
    RELEASE: f"the release {RELEASE} of sae-lens has more than one SAE, so give its name too",
    f"{RELEASE}x/{SAE_ID}": f"or did you mean the release '{RELEASE}' of sae-lens?",
    TRANSCODERS: "is a transcoder (jumprelu_transcoder)",
}
"""What is no SAE on the hub -> part of the sentence."""


def sparsify_folder(folder: Path) -> None:
    """A folder as sparsify writes it."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    weights = {
        "encoder.weight": torch.randn(WIDTH, D_IN),
        "encoder.bias": torch.zeros(WIDTH),
        "W_dec": torch.randn(WIDTH, D_IN),
        "b_dec": torch.zeros(D_IN),
    }
    save_file(weights, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"d_in": D_IN, "num_latents": WIDTH, "k": K}))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("repositories")
    saved(saelens_sae("topk"), root / "one")
    for layer in (2, 3):
        sparsify_folder(root / "several" / f"layers.{layer}")
    (root / "several" / "config.json").write_text(json.dumps({"model": "tiny", "ctx_len": 64}))
    saved(saelens_sae("standard"), root / "release" / SAE_ID)
    (root / "text").mkdir()
    (root / "text" / "README.md").write_text("nothing")
    repositories = [
        Repository("models", f"somebody/{name}", Commit(root / name)) for name in ("one", "several", "text")
    ]
    gated = replace(repositories[0], id="somebody/gated", gated=True)
    with Hub([*repositories, gated, Repository("models", REPOSITORY, Commit(root / "release"))]) as hub:
        yield hub


@pytest.fixture(scope="module")
def answers(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `abench import` says of each name: with the hub, then of two of them without it."""
    home = tmp_path_factory.mktemp("home")
    names = ["somebody/one", "somebody/several/layers.2", f"{RELEASE}/{SAE_ID}", *WRONG]
    again = ["somebody/several/layers.2", f"{RELEASE}/{SAE_ID}", "somebody/several/layers.3"]
    told = ask(
        client_environment(hub, home),
        *(["import", name, "--json"] for name in names),
        "import os; os.environ['HF_ENDPOINT'] = 'http://localhost:1'",  # where nothing listens
        *(["import", name, "--json"] for name in again),
    )
    keys = [*names, "the network fails", *(f"offline {name}" for name in again)]
    return dict(zip(keys, told, strict=True))


def facts(answer: Any) -> Any:
    assert answer["code"] == 0, answer["err"]
    return json.loads(answer["out"])


def test_a_repository_that_is_one_sae(answers: dict[str, Any]) -> None:
    one = facts(answers["somebody/one"])
    assert (one["name"], one["format"], one["class"]) == ("somebody_one", "sae-lens", "TopKSAE")


def test_a_folder_of_a_repository(answers: dict[str, Any]) -> None:
    one = facts(answers["somebody/several/layers.2"])
    assert (one["format"], one["site"], one["k"]) == ("sparsify", "blocks.2.hook_resid_post", K)
    assert (one["model"], one["context"]) == ("tiny", 64)


def test_a_release_of_sae_lens(answers: dict[str, Any]) -> None:
    one = facts(answers[f"{RELEASE}/{SAE_ID}"])
    assert (one["class"], one["width"], one["l0"]) == ("StandardSAE", WIDTH, 51.0)


@pytest.mark.parametrize("name", WRONG)
def test_a_sentence_says_what_is_wrong(name: str, answers: dict[str, Any]) -> None:
    answer = answers[name]
    assert answer["code"] == 2
    assert WRONG[name] in answer["err"]
    assert answer["err"].count("\n") == 1


def test_what_was_downloaded_is_read_without_a_network(answers: dict[str, Any]) -> None:
    for name in ("somebody/several/layers.2", f"{RELEASE}/{SAE_ID}"):
        assert facts(answers[f"offline {name}"]) == facts(answers[name])
    missing = answers["offline somebody/several/layers.3"]
    assert missing["code"] == 2
    assert "in somebody/several is not on this machine and localhost cannot be reached" in missing["err"]


def test_without_a_network_the_answer_is_fast() -> None:
    start = time.perf_counter()
    with pytest.raises(UserError, match="is not on this machine and HF_HUB_OFFLINE is set"):
        read_sae("somebody/somewhere")
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("./nowhere", "there is no file or folder './nowhere'"),
        ("nowhere/ae.pt", "there is no file or folder 'nowhere/ae.pt'"),
        ("gpt2-small-res-j", "nor a release of sae-lens; did you mean 'gpt2-small-res-jb'"),
        ("x" * 5000, "is neither a file or folder"),
    ],
    ids=["path", "file", "release", "long"],
)
def test_names_of_nothing(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_sae(name)
