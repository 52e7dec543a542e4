"""Checks that a Hugging Face folder's files exist and are complete; needs neither torch nor transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abench.errors import UserError, outside_cause


def check_files(folder: Path) -> None:
    """Raise UserError unless a folder has a readable config and complete safetensors weights."""
    try:
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} is not a Hugging Face model folder: it has no config.json")
        _json_object(folder / "config.json")
        if (folder / "generation_config.json").is_file():
            # transformers would continue without the tokens that end a reply.
            _json_object(folder / "generation_config.json")
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                f"{folder} holds an adapter (adapter_config.json), which abench does not apply: merge it "
                "into the weights and give the folder of the merged model"
            )
        _check_weights(folder)
    except OSError as error:
        raise UserError(f"the model in {folder} cannot be read: {outside_cause(error)}") from error


def _json_object(file: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise UserError(f"{file} cannot be read: {outside_cause(error)}") from error
    except ValueError as error:
        # Not UTF-8, a byte order mark at the beginning, or a truncated file.
        raise UserError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file} is not a JSON object, but {type(value).__name__}")
    return value


def _check_weights(folder: Path) -> None:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [p.name for p in folder.glob("*.bin")]
        also = f" ({pickled[0]} is a pickle, which abench does not load)" if pickled else ""
        raise UserError(f"{folder} has no weights: it contains no .safetensors file{also}")
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        named = _json_object(index).get("weight_map")
        shards = set(named.values()) if isinstance(named, dict) else set()
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise UserError(f"{index} is damaged: it does not state which file holds which weights")
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            raise UserError(f"{folder} lacks {missing[0]}, which {index.name} lists: download it again")
    for file in weights:
        _header(file)


def _header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: tensor name -> type and position. Raises UserError if damaged."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        try:
            header: Any = json.loads(stream.read(header_size) if header_size <= size - 8 else "null")
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            end = max((int(each["data_offsets"][1]) for each in tensors.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise UserError(f"{file} is damaged: its header cannot be read; download it again") from error
    if size != 8 + header_size + end:
        raise UserError(
            f"{file} is damaged: it has {size} bytes, but its header declares {8 + header_size + end}; "
            "download it again"
        )
    return tensors


def number_of_tensors(folder: Path) -> int:
    """The number of tensors in the safetensors files of a folder."""
    return sum(len(_header(file)) for file in folder.glob("*.safetensors"))


def shapes_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in the safetensors files of a folder, by name. Raises UserError if damaged."""
    headers = [_header(file) for file in sorted(folder.glob("*.safetensors"))]
    return {name: tuple(each["shape"]) for header in headers for name, each in header.items()}
