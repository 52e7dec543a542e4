"""Whether the files of a Hugging Face folder are there and whole; needs neither torch nor transformers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abench.errors import UserError, outside_cause


def check_files(folder: Path) -> None:
    """Raise UserError unless a folder holds a readable config and whole safetensors weights."""
    try:
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} is not a Hugging Face model folder: it has no config.json")
        _json_object(folder / "config.json")
        if (folder / "generation_config.json").is_file():
            # transformers would go on without the tokens that end a reply.
            _json_object(folder / "generation_config.json")
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                f"{folder} holds an adapter (adapter_config.json), which abench does not apply: merge it "
                "into the weights, and name the folder of the merged model"
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
        # A file that is not UTF-8, that begins with a byte order mark, or that ends too early.
        raise UserError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file} is not a JSON object, but {type(value).__name__}")
    return value


def _check_weights(folder: Path) -> None:
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [p.name for p in folder.glob("*.bin")]
        also = f" ({pickled[0]} is a pickle, which abench does not load)" if pickled else ""
        raise UserError(f"{folder} has no weights: no .safetensors file is in it{also}")
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        named = _json_object(index).get("weight_map")
        shards = set(named.values()) if isinstance(named, dict) else set()
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise UserError(f"{index} is damaged: it does not say which file holds which weights")
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            raise UserError(f"{folder} lacks {missing[0]}, which {index.name} names: fetch the file again")
    for file in weights:
        _header(file)


def _header(file: Path) -> dict[str, Any]:
    """The names, types and places of the tensors in a safetensors file, which is whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        try:
            header: Any = json.loads(stream.read(header_size) if header_size <= size - 8 else "null")
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            end = max((int(each["data_offsets"][1]) for each in tensors.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise UserError(f"{file} is damaged: its header cannot be read; fetch the file again") from error
    if size != 8 + header_size + end:
        raise UserError(
            f"{file} is damaged: it has {size} bytes where its header announces {8 + header_size + end}; "
            "fetch the file again"
        )
    return tensors


def number_of_tensors(folder: Path) -> int:
    """How many tensors the safetensors files in a folder hold."""
    return sum(len(_header(file)) for file in folder.glob("*.safetensors"))
