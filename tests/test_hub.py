"""`abench run` on the six named models from end to end: fetched from a hub, then without it."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hub.client import ask, client_environment
from hub.contents import DATASETS, make_hub
from hub.models import LAYOUTS
from hub.repository import Commit, Repository
from hub.server import MEMBER_TOKEN, STRANGER_TOKEN, Asked, Fault, Hub

pytestmark = pytest.mark.slow

SMALL = {
    "training.batch_size": 256,
    "training.buffer_tokens": 512,
    "training.calibration_tokens": 256,
    "evaluation.tokens": 128,
    "context": 32,
    "data.held_out_documents": 5,
}
LAYERS = {"pythia-70m": (3, 4), "gpt2": (6,), "gemma-2-2b": (12,), "gemma-3-12b": (24,), "qwen3-4b": (18,)}
LAYERS["llama-3.1-8b"] = (24,)
"""Of the layers of configs/models the first; of the smallest model all."""


def run(model: str | Path, results: Path, *more: str) -> list[Any]:
    """A command line that trains two small SAEs on a model and scores them."""
    layers = ",".join(map(str, LAYERS.get(str(model), (3,))))
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    report = Path(model).name.removesuffix(".yaml").replace(" ", "-")
    named = ["--model", model, "--name", report, "--layer", layers, "--results", results]
    sizes = ["--variants", "abstopk,topk", "--width", "64", "--k", "4", "--tokens", "512"]
    return ["run", *named, *sizes, *settings, *more]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with make_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@dataclass(frozen=True)
class Ran:
    """What came of a first run of each model."""

    home: Path
    results: Path
    answers: dict[str, dict[str, Any]]
    asked: tuple[Asked, ...]


@pytest.fixture(scope="module")
def ran(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    home, results = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("ran") / "results"
    environment = client_environment(hub, home, token=MEMBER_TOKEN)
    before = len(hub.asked)
    answers = ask(environment, *(run(model, results, "--tasks", "core") for model in LAYERS))
    return Ran(home, results, dict(zip(LAYERS, answers, strict=True)), tuple(hub.asked[before:]))


def test_all_six_models_are_here() -> None:
    from abench.config import config_names, model_config

    names = {n for n in config_names("models") if "/" in model_config(n).weights}
    assert set(LAYERS) == set(LAYOUTS) == names


@pytest.mark.parametrize("model", LAYERS)
def test_a_model_is_fetched_trained_on_and_scored(ran: Ran, model: str) -> None:
    answer = ran.answers[model]
    assert answer["code"] == 0, answer["err"]
    assert f"{2 * len(LAYERS[model])} cells computed, 0 from the results folder" in answer["out"]
    frame = pd.read_csv(ran.results / "reports" / model / "data.csv")
    assert set(frame.site) == {f"blocks.{layer}.hook_resid_post" for layer in LAYERS[model]}
    assert set(frame.status) == {"done"}
    assert frame.value.map(math.isfinite).all()
    assert set(frame[frame.metric == "l0"].value) == {4}


@pytest.mark.parametrize("model", LAYERS)
def test_weights_are_asked_for_once_and_pickles_never(hub: Hub, ran: Ran, model: str) -> None:
    from abench.config import model_config

    repository = hub.repositories["models", model_config(model).weights]
    downloads = [a.path for a in ran.asked if a.method == "GET" and f"/{repository.id}/resolve/" in a.path]
    descriptions = [a for a in ran.asked if a.path.startswith(f"/api/models/{repository.id}/revision/")]
    assert len(descriptions) == 1
    read = (".json", ".safetensors", ".jinja", ".tiktoken")
    wanted = [f for f in repository.main.files if f.endswith(read)]
    assert sorted(path.partition("/resolve/")[2].partition("/")[2] for path in downloads) == sorted(wanted)


def test_without_the_hub_everything_comes_from_this_machine(hub: Hub, ran: Ran) -> None:
    before = len(hub.asked)
    again = [run(model, ran.results, "--tasks", "core") for model in LAYERS]
    more = run("pythia-70m", ran.results, "--tasks", "core", "--seeds", "1")
    unknown = run("nobody/nothing", ran.results)
    status = ["status", *more[1:]]
    *answers, stopped, absent, missing = ask(
        client_environment(hub, ran.home, offline=True), *again, more, unknown, status
    )
    assert len(hub.asked) == before
    for answer in answers:
        assert answer["code"] == 0, answer["err"]
        assert "0 cells computed" in answer["out"]
    sentence = "the data set monology/pile-uncopyrighted cannot be read: HF_HUB_OFFLINE is set"
    assert stopped["code"] == 2
    assert sentence in stopped["err"]
    assert absent["code"] == 2
    assert "the weights of nobody/nothing are not on this machine and HF_HUB_OFFLINE is set" in absent["err"]
    assert missing["code"] == 4
    for answer in (stopped, absent):
        assert "Traceback" not in answer["err"]


def test_a_latent_of_an_sae_trained_on_a_hub_s_texts_is_shown(hub: Hub, ran: Ran) -> None:
    folder = next(mark.parent for mark in ran.results.glob("saes/pythia-70m/*/*/sae.json"))
    environment = client_environment(hub, ran.home, token=MEMBER_TOKEN)
    (answer,) = ask(environment, ["show", folder, "--latent", "0", "--tokens", "128"])
    assert answer["code"] == 0, answer["err"]
    assert "Latent 0 of pythia-70m" in answer["out"]


def test_a_hub_that_is_away_is_not_waited_for(ran: Ran) -> None:
    with Hub([]) as gone:
        environment = client_environment(gone, ran.home)
    command = [sys.executable, "-P", "-m", "abench", *map(str, run("pythia-70m", ran.results))]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "0 cells computed, 4 from the results folder" in again.stdout


def commit(folder: Path, source: Commit, *, without: str, extra: dict[str, bytes]) -> Commit:
    """A copy of a commit without the files whose names contain `without`, and with others."""
    folder.mkdir()
    for name, file in source.files.items():
        if without not in name:
            os.link(file, folder / name)
    for name, content in extra.items():
        (folder / name).write_bytes(content)
    return Commit(folder)


@pytest.fixture(scope="module")
def refused(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What comes of repositories that are gated, absent or not whole, without a token."""
    folder, results = tmp_path_factory.mktemp("broken"), tmp_path_factory.mktemp("refused") / "results"
    pythia = hub.repositories["models", "EleutherAI/pythia-70m"]
    for name, without, extra in (
        ("pickled", "safetensors", {"pytorch_model.bin": b"a pickle"}),
        ("no-tokenizer", "tokenizer", {}),
        ("no-config", "config", {}),
    ):
        made = commit(folder / name, pythia.main, without=without, extra=extra)
        hub.repositories["models", f"someone/{name}"] = Repository("models", f"someone/{name}", made)
    asked = {
        "gated": "gemma-2-2b",
        "absent": "nobody/nothing",
        "no id": "nobody/not hing",
        "pickled": "someone/pickled",
        "no tokenizer": "someone/no-tokenizer",
        "no config": "someone/no-config",
        "other sizes": _yaml(folder / "sizes.yaml", n_layers=6, d_model=256),
        "no such revision": _yaml(folder / "revision.yaml", n_layers=6, d_model=512, revision="step7"),
        "broken off": _yaml(folder / "broken.yaml", n_layers=6, d_model=512, revision="step1000"),
    }
    hub.faults[:] = [Fault(rf"{pythia.branches['step1000'].sha}/model\.safetensors", times=99, sent=0)]
    environment = client_environment(hub, tmp_path_factory.mktemp("home"))
    stranger = client_environment(hub, tmp_path_factory.mktemp("home"), token=STRANGER_TOKEN)
    answers = ask(environment, *(run(model, results) for model in asked.values()))
    hub.faults.clear()
    (outsider,) = ask(stranger, run("gemma-2-2b", results))
    return dict(zip(asked, answers, strict=True)) | {"not let in": outsider}


def _yaml(file: Path, *, n_layers: int, d_model: int, revision: str = "main") -> Path:
    """A model's file that names Pythia's repository."""
    lines = ["title: Pythia", "weights: EleutherAI/pythia-70m", f"revision: {revision}", "layers: [3]"]
    file.write_text("\n".join([*lines, f"n_layers: {n_layers}", f"d_model: {d_model}", "k: [4]"]))
    return file


SENTENCES = {
    "gated": "google/gemma-2-2b is gated: accept its licence on the hub and set HF_TOKEN",
    "not let in": "google/gemma-2-2b is gated: accept its licence on the hub and set HF_TOKEN",
    "absent": "the hub has no model 'nobody/nothing', or your token has no access to it",
    "no id": "'nobody/not hing' cannot be a hub id",
    "pickled": "has no weights: it contains no .safetensors file",
    "no tokenizer": "has no tokenizer: its vocabulary is empty",
    "no config": "is not a Hugging Face model folder: it has no config.json",
    "other sizes": "Pythia is configured with 6 blocks and d_model 256, but the weights in",
    "no such revision": "EleutherAI/pythia-70m has no revision 'step7' on the hub",
    "broken off": "downloading EleutherAI/pythia-70m from the hub failed",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_a_model_that_cannot_be_had_is_one_sentence(refused: dict[str, Any], case: str) -> None:
    answer = refused[case]
    sentences = [line for line in answer["err"].splitlines() if line.startswith("abench: ")]
    assert answer["code"] == 2, answer["err"]
    assert len(sentences) == 1
    assert SENTENCES[case] in sentences[0]
    assert "Traceback" not in answer["err"]


def test_a_dropped_download_is_taken_up_again_and_a_new_commit_is_another_model(
    hub: Hub, tmp_path: Path
) -> None:
    known = hub.repositories["models", "EleutherAI/pythia-70m"]
    hub.faults[:] = [Fault(rf"{known.main.sha}/model\.safetensors")]
    environment, command = client_environment(hub, tmp_path / "home"), run("pythia-70m", tmp_path / "results")
    (first,) = ask(environment, command)
    assert first["code"] == 0, first["err"]
    assert hub.faults[0].times == 0
    hub.faults.clear()
    downloaded = next((tmp_path / "home").glob("hub/models--*/snapshots/*/model.safetensors"))
    assert downloaded.read_bytes() == known.main.files["model.safetensors"].read_bytes()

    moved = replace(known, main=known.branches["step1000"], branches={})
    hub.repositories["models", known.id] = moved
    try:
        again, same = ask(environment, command, command)
    finally:
        hub.repositories["models", known.id] = known
    assert "4 cells computed, 0 from the results folder" in again["out"]
    assert "0 cells computed, 4 from the results folder" in same["out"]


def test_every_task_reads_its_data_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    before = len(hub.asked)
    command = run("pythia-70m", tmp_path / "results", "--tasks", "all", "--limit", "8", "--layer", "3")
    (answer,) = ask(client_environment(hub, tmp_path / "home", token=MEMBER_TOKEN), command)
    assert answer["code"] == 0, answer["out"] + answer["err"]
    frame = pd.read_csv(tmp_path / "results" / "reports" / "pythia-70m" / "data.csv")
    assert set(frame.status) <= {"done", "skipped"}
    done = set(frame[frame.status == "done"].task)
    assert {"core", "sparse_probing", "tpp"} <= done
    asked = {a.path.split("/resolve/")[0].removeprefix("/datasets/") for a in hub.asked[before:]}
    # Unlearning needs its forget corpus and Wikitext only for a model that knows some answers.
    assert asked >= set(DATASETS) - {
        "cais/wmdp-bio-forget-corpus",
        "Salesforce/wikitext",
        "Skylion007/openwebtext",
        "walledai/HarmBench",
        "tatsu-lab/alpaca",
    }
