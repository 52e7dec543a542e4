"""Reading configurations and weights; everything that can be wrong with a file becomes a sentence."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from abench.errors import UserError, outside_cause, short


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; NaN and infinities, which JSON does not have, become text.

    Raises UserError if the file cannot be read or holds something else.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"), parse_constant=str)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON: {outside_cause(error) or error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file} is not the configuration of an SAE: it is not a JSON object")
    return value


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file or in a file that torch saved, by name, on the CPU.

    Of files that torch saved only tensors are read; code in them is never run. Raises UserError if the file
    cannot be read or holds more than tensors.
    """
    if file.suffix == ".safetensors":
        return _from_safetensors(file)
    content = _from_torch(file)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise UserError(f"{file} is not a state dict: it holds {type(content).__name__}, not named tensors")
    other = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise UserError(
            f"{file} is not a state dict: {short(other[0])} in it is {type(content[other[0]]).__name__}, "
            "not a tensor"
        )
    return content


def _from_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"{file} is damaged or incomplete ({error}); save or download it again") from None
    return tensors


def _from_torch(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} holds more than tensors, and reading it could run code ({_first_line(error)}): open it "
            "where you trust it and save only its state dict"
        ) from None
    except PermissionError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        # torch's reader raises all of these for files that are cut off or are something else.
        raise UserError(
            f"{file} is damaged or incomplete ({_first_line(error)}); save or download it again"
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return short(lines[0]) if lines else type(error).__name__
