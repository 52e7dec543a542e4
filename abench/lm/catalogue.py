"""From the name a user gives a model to its configuration and, when needed, to the folder of its weights."""

import json
from pathlib import Path
from typing import Any

from abench.config import ModelConfig, config_names, is_model_file, model_config
from abench.errors import UserError, did_you_mean
from abench.lm import hub
from abench.lm.model_folder import Sizes, examine
from abench.names import safe_name
from abench.storage.content import folder_digest
from abench.storage.keys import key_of

_FORMER = {"bb4258b24298b1d9a6b3f0a5012ffb4f5e2d60c2": "c6a1fb491eb87600c00f42891c8e5e814776175b"}
"""Hash of all files in a folder -> its hash when fewer files were included, so that old results stay valid.

The entry is the bundled model's. A change to any of its files gives a hash that is not listed here.
"""


def find_model(name: str) -> tuple[str, ModelConfig]:
    """Short name and configuration of a shipped name, a YAML file, a local folder or a hub id.

    The short name becomes part of paths; a file or folder name that is not valid there is changed
    (`abench.names.safe_name`).

    Raises UserError with similar names if it is none of them. The config.json of a hub id that abench does
    not ship is downloaded, so this may need the network; shipped names never do.
    """
    if name in config_names("models"):
        return name, model_config(name)
    if is_model_file(name):
        return safe_name(Path(name).stem), model_config(name)
    if _is_folder(name):
        folder = Path(name).resolve()
        return safe_name(folder.name), _from_folder(folder, weights=str(folder))
    if _is_file(name):
        raise UserError(f"the model {_shown(name)} is a file: give its folder, or a model's YAML file")
    if _is_path(name):
        raise UserError(f"the model folder {_shown(name)} does not exist")
    if "/" in name:
        for known in config_names("models"):
            if model_config(known).weights == name:
                return known, model_config(known)
        return safe_name(name.replace("/", "--")), _from_folder(_fetched(name), weights=name)
    near = did_you_mean(name[:120], config_names("models"))
    raise UserError(
        f"unknown model {_shown(name)}{near}{'' if near.endswith('?') else '.'} "
        "A local Hugging Face folder, a hub id (owner/name) or a model's YAML file works too."
    )


def _fetched(name: str) -> Path:
    try:
        return hub.fetch_model(name, None)
    except UserError as error:
        raise UserError(f"there is no local folder {_shown(name)}, and {error}") from error


def recorded(config: ModelConfig) -> dict[str, Any]:
    """A configuration as it is stored with results, so that the model can be found again.

    A local folder is stored with its absolute path.
    """
    kept = config.model_dump(mode="json", exclude_defaults=True)
    local = None if config.weights == "tinyworld" else _local_folder(config)
    return kept if local is None else kept | {"weights": str(local.resolve())}


def weights_folder(config: ModelConfig) -> Path:
    """The local folder with a model's weights, downloaded from the hub if they are not on this machine.

    Weights on this machine are used as they are, so that a run opens the commit that its plan names.
    """
    return (
        _local_folder(config)
        or hub.cached_model(config.weights, config.revision)
        or _from_hub(config.weights, config.revision)
    )


def fetched_commit(config: ModelConfig, context: int | None = None) -> str:
    """The commit (or hash) that identifies the weights, which are downloaded if needed and checked.

    Raises UserError if they cannot be obtained, if the model cannot be opened, if its size differs from the
    configuration, or if it has no positions for `context` tokens (None: the configuration's context).
    """
    if config.synthetic is not None:
        return _synthetic_commit(config)
    folder = _local_folder(config) or _from_hub(config.weights, config.revision)
    _check_fit(config, folder, context)
    return commit_of(config, folder)


def local_commit(config: ModelConfig, context: int | None = None) -> str | None:
    """The commit (or hash) of the weights if they are on this machine, else None; never goes online.

    A local folder is checked as in `fetched_commit`. The hub's cache is not: the commit is known even if
    files are missing.
    """
    if config.synthetic is not None:
        return _synthetic_commit(config)
    local = _local_folder(config)
    if local is not None:
        _check_fit(config, local, context)
    folder = local or hub.cached_model(config.weights, config.revision)
    return None if folder is None else commit_of(config, folder)


def _check_fit(config: ModelConfig, folder: Path, context: int | None) -> None:
    sizes = _shipped_sizes(folder) if config.weights == "tinyworld" else examine(folder)
    _check_sizes(config, folder, sizes)
    _check_context(config, context, sizes)


def _shipped_sizes(folder: Path) -> Sizes:
    """The sizes of the bundled model. It is known to be sound; opening it would cost every run seconds."""
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Sizes(*(written[key] for key in ("num_hidden_layers", "hidden_size", "max_position_embeddings")))


def _synthetic_commit(config: ModelConfig) -> str:
    """A hash of a synthetic model's description (40 hex digits)."""
    return key_of(config.model_dump(mode="json", include={"d_model", "synthetic"}))[:40]


def _local_folder(config: ModelConfig) -> Path | None:
    if config.weights == "tinyworld":
        from abench.tinyworld import MODEL_DIR

        return Path(MODEL_DIR)
    return Path(config.weights) if _is_folder(config.weights) else None


def _is_folder(name: str) -> bool:
    try:
        return name != "" and Path(name).is_dir()
    except OSError:
        return False  # too long for a name, or in a folder without read permission


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:
        return False


def _from_hub(weights: str, revision: str | None) -> Path:
    """A hub model's folder; the hub is never queried for a name that can only be a path."""
    if _is_path(weights):
        raise UserError(f"the model folder {_shown(weights)} does not exist")
    return hub.fetch_model(weights, revision)


def _is_path(name: str) -> bool:
    """Whether a model's name can only be a file or folder; a hub id has exactly one slash, inside it."""
    return name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1 or "\\" in name


def _shown(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:120]}…")


def commit_of(config: ModelConfig, folder: Path) -> str:
    """The identity of the weights: the hub's commit, or a hash of the folder's files (40 hex digits)."""
    if _local_folder(config) is None:
        return folder.name  # the hub's cache names a snapshot's folder after its commit
    return folder_hash(folder)


def folder_hash(folder: Path) -> str:
    """A hash of every file in a local folder that is not hidden (40 hex digits).

    Raises UserError if a file cannot be read or changes while it is read.
    """
    digest = folder_digest(folder)[:40]
    return _FORMER.get(digest, digest)


def _from_folder(folder: Path, weights: str) -> ModelConfig:
    """The default configuration of an unknown model: middle layer, the paper's k = floor(d_model / 10)."""
    sizes = examine(folder)
    usual = ModelConfig.model_fields["context"].default
    return ModelConfig(
        title=folder.name if weights == str(folder) else weights,
        weights=weights,
        n_layers=sizes.n_layers,
        d_model=sizes.d_model,
        layers=(sizes.n_layers // 2,),
        k=(max(1, sizes.d_model // 10),),
        context=min(usual, sizes.max_context or usual),
    )


def _check_sizes(config: ModelConfig, folder: Path, sizes: Sizes) -> None:
    """Raise UserError unless the weights have the configured sizes, which sites and widths are based on."""
    if (sizes.n_layers, sizes.d_model) != (config.n_layers, config.d_model):
        raise UserError(
            f"{config.title} is configured with {config.n_layers} blocks and d_model {config.d_model}, but "
            f"the weights in {folder} have {sizes.n_layers} and {sizes.d_model}: correct the model's YAML "
            "file"
        )


def _check_context(config: ModelConfig, context: int | None, sizes: Sizes) -> None:
    """Raise UserError if the context is longer than the model has positions for."""
    tokens = context or config.context
    if sizes.max_context is not None and tokens > sizes.max_context:
        raise UserError(
            f"context = {tokens} is too long: {config.title} has positions for {sizes.max_context} tokens"
        )
