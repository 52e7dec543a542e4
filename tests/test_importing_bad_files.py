"""Folders that are no SAE, or a damaged one: a sentence says what is wrong with which file."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Abench
from foreign_saes import D_IN, WIDTH, saelens_sae, saved
from safetensors.torch import load_file, save_file
from torch import Tensor

from abench.errors import UserError
from abench.importing import read_sae


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound folder of sae-lens."""
    return saved(saelens_sae("topk"), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of a sound folder, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "sae"))


def change_weights(folder: Path, **changed: Tensor) -> None:
    file = folder / "sae_weights.safetensors"
    save_file(load_file(file) | changed, file)


def change_config(folder: Path, **changed: Any) -> None:
    file = folder / "cfg.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def sentence(path: Path) -> str:
    """The message about a path, which is one line and names the path."""
    with pytest.raises(UserError) as error:
        read_sae(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_values_that_are_not_finite(folder: Path) -> None:
    broken = torch.ones(WIDTH, D_IN)
    broken[3, :2] = torch.tensor([torch.nan, torch.inf])
    change_weights(folder, W_dec=broken)
    assert "2 of 2,304 values of W_dec are NaN or infinite; such an SAE cannot be scored" in sentence(folder)


def test_large_values_are_finite(folder: Path) -> None:
    change_weights(folder, W_dec=torch.full((WIDTH, D_IN), 3e38))
    assert read_sae(folder).width == WIDTH


@pytest.mark.parametrize("name, shape", [("W_enc", (WIDTH, D_IN)), ("W_dec", (D_IN, WIDTH))])
def test_a_transposed_matrix_is_named(name: str, shape: tuple[int, int], folder: Path) -> None:
    change_weights(folder, **{name: torch.ones(shape)})
    was, must = list(shape), list(reversed(shape))
    assert f"{name} is transposed: it is {was} and must be {must}" in sentence(folder)


def test_sizes_that_contradict_each_other(folder: Path) -> None:
    change_config(folder, d_in=D_IN // 2)
    assert (
        f"W_dec is [{WIDTH}, {D_IN}], but by the configuration it must be [{WIDTH}, {D_IN // 2}]"
        in sentence(folder)
    )
    change_config(folder, d_in=None)
    assert "the configuration does not state d_in, a whole number from 1" in sentence(folder)


def test_tensors_that_are_missing_or_strange(folder: Path) -> None:
    change_weights(folder, extra=torch.ones(1))
    assert "has a tensor 'extra', which an SAE of its configuration's class does not have; it has W_dec" in (
        sentence(folder)
    )
    save_file({"W_enc": torch.ones(D_IN, WIDTH)}, folder / "sae_weights.safetensors")
    assert "has no tensor 'b_dec'; did you mean 'W_enc'?" in sentence(folder)


def test_an_unknown_architecture(folder: Path) -> None:
    change_config(folder, architecture="topkk")
    assert "unknown architecture 'topkk'; did you mean 'topk'?; import the package" in sentence(folder)


@pytest.mark.parametrize("architecture", [None, ["topk"], {"a": 1}, 3])
def test_an_architecture_that_is_no_name(architecture: Any, folder: Path) -> None:
    change_config(folder, architecture=architecture)
    assert "unknown architecture" in sentence(folder)


@pytest.mark.parametrize("k", [0, -3, WIDTH + 1, "many", 2.5, None])
def test_a_k_that_is_not_possible(k: Any, folder: Path) -> None:
    change_config(folder, k=k)
    assert f"k must be a whole number between 1 and the {WIDTH} latents" in sentence(folder)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\ufeff{}", "[" * 100_000, "null"])
def test_a_configuration_that_is_no_json_object(content: str, folder: Path) -> None:
    (folder / "cfg.json").write_text(content)
    assert "cfg.json is not" in sentence(folder)


def test_files_that_are_missing_or_cut_off(folder: Path) -> None:
    (folder / "cfg.json").unlink()
    assert "cfg.json cannot be read: No such file or directory" in sentence(folder)
    shutil.copy(folder / "sae_weights.safetensors", folder / "cfg.json")
    assert "cfg.json is not valid JSON" in sentence(folder)


def test_weights_that_are_cut_off(folder: Path) -> None:
    file = folder / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "sae_weights.safetensors is damaged or incomplete" in sentence(folder)


def test_a_folder_that_is_no_sae(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    message = sentence(tmp_path)
    assert "holds no SAE in a known format" in message
    for name in ("sae-lens", "dictionary_learning", "sparsify", "abstopk-paper", "abench"):
        assert f"{name}: " in message
    assert "is not the weights of an SAE in a known format" in sentence(tmp_path / "notes.txt")


def test_a_folder_of_two_formats(folder: Path) -> None:
    torch.save({}, folder / "ae.pt")
    assert "could be an SAE of dictionary_learning or of sae-lens" in sentence(folder)


def test_a_folder_that_holds_saes(whole: Path, tmp_path: Path) -> None:
    for number in range(9):
        shutil.copytree(whole, tmp_path / f"sae_{number}")
    message = sentence(tmp_path)
    assert "holds several SAEs, so give the folder of one: sae_0, sae_1, sae_2" in message
    assert message.endswith("sae_5 and 3 more")


def test_the_command_prints_one_line_and_exits_with_2(folder: Path, abench: Abench) -> None:
    change_config(folder, architecture="topkk")
    result = abench("import", folder)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"abench: {folder}")
    assert result.err.count("\n") == 1
