"""From the name a user gives a model to its configuration and, when needed, to the folder of its weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abench.config import ModelConfig, config_names, is_model_file, model_config, model_named, model_names
from abench.config.plugin_models import added_model, added_names
from abench.errors import UserError, did_you_mean
from abench.lm import hub
from abench.lm.dimensions import other_dimensions
from abench.lm.gguf_files import is_gguf
from abench.lm.model_folder import Sizes, configured_sizes, examine
from abench.lm.origins import GgufFile, Say, is_file, is_folder, is_path, origin_of
from abench.names import safe_name
from abench.storage.keys import key_of


def find_model(name: str, plugins: Sequence[Path] = ()) -> tuple[str, ModelConfig]:
    """Short name and configuration of a name or alias, a YAML or GGUF file, a folder or a hub id.

    Names and aliases are those of the models that come with abench, that installed packages describe, and
    that YAML files in the folders `plugins` describe.

    The short name becomes part of paths; a file or folder name that is not valid there is changed
    (`abench.names.safe_name`).

    Raises UserError with similar names if it is none of them. The config.json of a hub id that abench does
    not ship is downloaded, so this may need the network; shipped names never do.
    """
    shipped = model_named(name)
    if shipped is not None:
        return shipped, model_config(shipped)
    if (added := added_model(name, plugins)) is not None:
        return added
    if is_model_file(name):
        return safe_name(Path(name).stem), model_config(name)
    if is_folder(name):
        folder = Path(name).resolve()
        return safe_name(folder.name), _with_defaults(examine(folder), folder.name, str(folder))
    if is_file(name):
        if not is_gguf(name):
            raise UserError(
                f"the model {_shown(name)} is a file: give its folder, or a model's YAML file or GGUF file"
            )
        file = Path(name).resolve()
        return safe_name(file.stem), _with_defaults(_sizes_of_file(file), file.stem, str(file))
    if is_path(name):
        kind = "file" if is_gguf(name) else "folder"
        raise UserError(f"the model {kind} {_shown(name)} does not exist")
    if "/" in name:
        for known in config_names("models"):
            if model_config(known).weights == name:
                return known, model_config(known)
        return safe_name(name.replace("/", "--")), _with_defaults(examine(_fetched(name)), name, name)
    near = did_you_mean(name[:120], [*model_names(), *added_names(plugins)])
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

    A local folder or file is stored with its absolute path.
    """
    kept = config.model_dump(mode="json", exclude_defaults=True)
    place = None if config.synthetic is not None else origin_of(config).recorded()
    return kept if place is None else kept | {"weights": place}


def weights_folder(config: ModelConfig) -> Path:
    """The local folder with a model's weights, downloaded from the hub or converted if they are not there.

    Weights on this machine are used as they are, so that a run opens the commit that its plan names.
    """
    origin = origin_of(config)
    return origin.folder() or origin.opened(_say)


def fetch_weights(config: ModelConfig, say: Say) -> Path:
    """The local folder with a model's weights, which are downloaded and converted if needed and checked.

    `say` receives sentences about what is being done. Raises UserError if the weights cannot be had or
    opened, and StorageError if they cannot be written.
    """
    folder = origin_of(config).fetched(say)
    _check_fit(config, folder, None)
    return folder


def fetched_commit(config: ModelConfig, context: int | None = None) -> str:
    """The commit (or hash) that identifies the weights, which are downloaded if needed and checked.

    The weights of a package are not: their user is asked to fetch them. Raises UserError if they cannot be
    obtained, if the model cannot be opened, if its size differs from the configuration, or if it has no
    positions for `context` tokens (None: the configuration's context).
    """
    if config.synthetic is not None:
        return _synthetic_commit(config)
    origin = origin_of(config)
    folder = origin.opened(_say)
    _check_fit(config, folder, context)
    return origin.commit(folder)


def local_commit(config: ModelConfig, context: int | None = None) -> str | None:
    """The commit (or hash) of the weights if it is known on this machine, else None; never goes online.

    That of a package or a GGUF file is known even if the weights have not been converted yet. A local folder
    is checked as in `fetched_commit`. The hub's cache is not: the commit is known even if files are missing.
    """
    if config.synthetic is not None:
        return _synthetic_commit(config)
    origin = origin_of(config)
    return fetched_commit(config, context) if origin.in_place else origin.commit_here()


def absent_weights(config: ModelConfig) -> str | None:
    """A sentence that states how to get weights that are not on this machine; None if none are missing."""
    return None if config.synthetic is not None else origin_of(config).absent()


def _say(sentence: str) -> None:
    from abench.progress import for_stderr

    for_stderr().say(sentence)


def _check_fit(config: ModelConfig, folder: Path, context: int | None) -> None:
    sizes = _shipped_sizes(folder) if config.weights == "tinyworld" else examine(folder)
    _check_sizes(config, folder, sizes)
    if (sentence := other_dimensions(config, folder)) is not None:
        _say(sentence)
    _check_context(config, context, sizes)


def _shipped_sizes(folder: Path) -> Sizes:
    """The sizes of the bundled model. It is known to be sound; opening it would cost every run seconds."""
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Sizes(*(written[key] for key in ("num_hidden_layers", "hidden_size", "max_position_embeddings")))


def _synthetic_commit(config: ModelConfig) -> str:
    """A hash of a synthetic model's description (40 hex digits)."""
    return key_of(config.model_dump(mode="json", include={"d_model", "synthetic"}))[:40]


def _shown(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:120]}…")


def commit_of(config: ModelConfig, folder: Path) -> str:
    """The identity of the weights in a folder: the hub's commit, or a hash (40 hex digits).

    Raises UserError if converted weights are damaged.
    """
    return origin_of(config).commit(folder)


def _sizes_of_file(file: Path) -> Sizes:
    converted = GgufFile(file).folder()
    if converted is not None:
        return configured_sizes(converted)
    from abench.lm.gguf_models import gguf_sizes

    return gguf_sizes(file)


def _with_defaults(sizes: Sizes, title: str, weights: str) -> ModelConfig:
    """The default configuration of an unknown model: middle layer, the paper's k = floor(d_model / 10)."""
    usual = ModelConfig.model_fields["context"].default
    return ModelConfig(
        title=title,
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
