"""From what a user calls a model to its configuration and, when it is needed, the folder of its weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

from abench import hub
from abench.config import ModelConfig, config_names, is_model_file, model_config
from abench.errors import UserError, did_you_mean
from abench.keys import key_of
from abench.names import safe_name

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_IDENTITY_FILES = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")


def find_model(name: str) -> tuple[str, ModelConfig]:
    """Short name and configuration of a shipped name, a YAML file, a local folder or a hub id.

    The short name becomes part of paths: one made of a file's or folder's name that cannot is changed
    (`abench.names.safe_name`).

    Raises UserError with near names if it is none of them. A hub id that abench does not know is asked
    for its config.json, so this may need the network; shipped names never do.
    """
    if name in config_names("models"):
        return name, model_config(name)
    if is_model_file(name):
        return safe_name(Path(name).stem), model_config(name)
    if Path(name).is_dir():
        folder = Path(name).resolve()
        return safe_name(folder.name), _from_folder(folder, weights=str(folder))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        for known in config_names("models"):
            if model_config(known).weights == name:
                return known, model_config(known)
        return safe_name(name.replace("/", "--")), _from_folder(hub.fetch_model(name, None), weights=name)
    known_names = config_names("models")
    raise UserError(
        f"unknown model '{name}'{did_you_mean(name, known_names)} "
        "A local Hugging Face folder, a hub id (owner/name) or a model's YAML file works too."
    )


def recorded(config: ModelConfig) -> dict[str, Any]:
    """A configuration as it is kept beside what was made with the model, so that it is found again.

    A local folder has its whole path there, whatever folder it was named from.
    """
    kept = config.model_dump(mode="json", exclude_defaults=True)
    local = None if config.weights == "tinyworld" else _local_folder(config)
    return kept if local is None else kept | {"weights": str(local.resolve())}


def weights_folder(config: ModelConfig) -> Path:
    """The local folder with a model's weights; fetches them from the hub if they are not here.

    What is here is not asked for again, so that a run opens the very commit that its plan names.
    """
    return (
        _local_folder(config)
        or hub.cached_model(config.weights, config.revision)
        or hub.fetch_model(config.weights, config.revision)
    )


def fetched_commit(config: ModelConfig) -> str:
    """What identifies the weights, which are fetched from the hub and checked if need be.

    Raises UserError if they cannot be had, are damaged, or are of another size than the configuration says.
    """
    if config.synthetic is not None:
        return _synthetic_commit(config)
    folder = _local_folder(config) or hub.fetch_model(config.weights, config.revision)
    check_folder(folder)
    _check_sizes(config, folder)
    return commit_of(config, folder)


def local_commit(config: ModelConfig) -> str | None:
    """What identifies the weights if they are on this machine; None, without asking the network, if not."""
    if config.synthetic is not None:
        return _synthetic_commit(config)
    folder = _local_folder(config) or hub.cached_model(config.weights, config.revision)
    return None if folder is None else commit_of(config, folder)


def _synthetic_commit(config: ModelConfig) -> str:
    """A synthetic model is its description (40 hex digits)."""
    return key_of(config.model_dump(mode="json", include={"d_model", "synthetic"}))[:40]


def _local_folder(config: ModelConfig) -> Path | None:
    if config.weights == "tinyworld":
        from abench.tinyworld import MODEL_DIR

        return Path(MODEL_DIR)
    folder = Path(config.weights)
    return folder if folder.is_dir() else None


def commit_of(config: ModelConfig, folder: Path) -> str:
    """What identifies the weights: the hub's commit, or a hash of the folder's files (40 hex digits)."""
    if _local_folder(config) is None:
        return folder.name  # the hub's cache names a snapshot's folder after its commit
    return folder_hash(folder)


def folder_hash(folder: Path) -> str:
    """A hash of a local folder's weights, configuration and tokenizer (40 hex digits)."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *(folder / name for name in _IDENTITY_FILES)]):
        if file.is_file():
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 22):
                    digest.update(chunk)
    return digest.hexdigest()[:40]


def check_folder(folder: Path) -> None:
    """Raise UserError unless the folder holds a config, a vocabulary and whole safetensors weights."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a Hugging Face model folder: it has no config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [p.name for p in folder.glob("*.bin")]
        also = f" ({pickled[0]} is a pickle, which abench does not load)" if pickled else ""
        raise UserError(f"{folder} has no weights: no .safetensors file is in it{also}")
    for file in weights:
        _check_safetensors(file)
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        # transformers would make a tokenizer that knows no words, and every text would be empty.
        raise UserError(f"{folder} has no tokenizer: none of {', '.join(_VOCABULARIES)} is in it")


def _check_safetensors(file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(header_size)) if header_size <= size - 8 else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise UserError(f"{file} is damaged: its header cannot be read; fetch the file again")
    end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    if size != 8 + header_size + end:
        raise UserError(
            f"{file} is damaged: it has {size} bytes where its header announces {8 + header_size + end}; "
            "fetch the file again"
        )


def _from_folder(folder: Path, weights: str) -> ModelConfig:
    """Defaults for an unknown model: the middle layer, and the paper's k = floor(d_model / 10)."""
    check_folder(folder)
    n_layers, d_model = _sizes(folder)
    return ModelConfig(
        title=folder.name if weights == str(folder) else weights,
        weights=weights,
        n_layers=n_layers,
        d_model=d_model,
        layers=(n_layers // 2,),
        k=(max(1, d_model // 10),),
    )


def _sizes(folder: Path) -> tuple[int, int]:
    """Number of layers and width, as a model's config.json has them."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    try:
        n_layers = int(text.get("num_hidden_layers", text.get("n_layer", 0)))
        d_model = int(text.get("hidden_size", text.get("n_embd", 0)))
    except (TypeError, ValueError):
        n_layers = d_model = 0
    if not n_layers or not d_model:
        raise UserError(f"{folder}/config.json does not say how many layers the model has, or how wide it is")
    return n_layers, d_model


def _check_sizes(config: ModelConfig, folder: Path) -> None:
    """Raise UserError unless the weights are of the sizes that sites and widths were planned with."""
    n_layers, d_model = _sizes(folder)
    if (n_layers, d_model) != (config.n_layers, config.d_model):
        raise UserError(
            f"{config.title} is configured with {config.n_layers} blocks and d_model {config.d_model}, but "
            f"the weights in {folder} have {n_layers} and {d_model}: correct the model's YAML file"
        )
