"""Devices: what cannot be computed on is one sentence, before anything is made."""

from pathlib import Path

import pytest
import torch
from command import Abench

from abench import LanguageModel, UserError
from abench.lm import devices
from abench.lm.devices import available_devices, usable_device
from abench.tinyworld import MODEL_DIR

NONE = ["meta", "cpu:7", "cuda:99", "", " cpu", "nonsense", "cpu:-1", f"cpu:{10**20}", "\0", "x" * 5000]
NONE += [kind for kind in ("mps", "xpu", "hpu", "privateuseone") if kind not in available_devices()]


@pytest.mark.parametrize("device", NONE, ids=lambda name: repr(name)[:20])
def test_a_device_that_cannot_be_used_is_one_short_sentence(device: str) -> None:
    with pytest.raises(UserError) as raised:
        usable_device(device)
    sentence = str(raised.value)
    assert sentence.startswith("device '") and "cannot be used: " in sentence
    assert "usable here: cpu" in sentence
    assert len(sentence) < 250 and len(sentence.splitlines()) == 1


def test_devices_that_are_there() -> None:
    assert usable_device("cpu") == "cpu"
    assert usable_device("cpu:0") == "cpu:0"
    assert usable_device(None) == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["meta", "cpu:7", "mps"])
def test_a_run_finds_it_before_anything_is_made(abench: Abench, tmp_path: Path, device: str) -> None:
    result = abench("run", "--device", device, "--results", tmp_path / "results")
    assert result.code == 2
    assert result.err.startswith(f"abench: device '{device}' cannot be used: ")
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_a_gpu_beyond_the_last_is_named_with_their_number(
    abench: Abench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_number", lambda kind: 2 if kind == "cuda" else 1)
    result = abench("run", "--device", "cuda:7", "--results", tmp_path / "results")
    assert result.code == 2 and len(result.err.splitlines()) == 1
    assert "'cuda:7' cannot be used: devices are counted from 0, and this machine has 2 of this" in result.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("auto,cuda:0", "--device names different kinds of devices (auto and cuda)"),
        ("auto,auto", "--device names auto twice"),
    ],
)
def test_a_model_that_is_spread_has_all_gpus(
    abench: Abench, tmp_path: Path, names: str, sentence: str
) -> None:
    result = abench("run", "--device", names, "--results", tmp_path / "results")
    assert result.code == 2 and sentence in result.err
    assert not (tmp_path / "results").exists()


def test_so_does_whoever_loads_a_model() -> None:
    with pytest.raises(UserError, match="device 'meta' cannot be used"):
        LanguageModel.load(MODEL_DIR, name="tiny", device="meta")
