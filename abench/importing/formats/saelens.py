"""sae-lens folders: cfg.json and sae_weights.safetensors, of all versions, and its checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME, SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from torch import Tensor

from abench.errors import UserError, did_you_mean
from abench.importing.files import read_json, read_weights
from abench.importing.parsed import Format, Parsed
from abench.importing.settings import whole
from abench.importing.training_classes import for_inference

_RESULTS_MARK = "sae.json"
"""abench's own SAEs are sae-lens folders with this record; another format reads them."""
_SCALED = "expected_average_only_in"


def find(path: Path) -> Path | None:
    """The weights of a sae-lens folder, given the folder or the file of weights."""
    folder = path.parent if path.name == SAE_WEIGHTS_FILENAME else path
    weights = folder / SAE_WEIGHTS_FILENAME
    return weights if weights.is_file() and not (folder / _RESULTS_MARK).exists() else None


def parse(weights_file: Path) -> Parsed:
    """The SAE in a sae-lens folder, given its file of weights."""
    folder = weights_file.parent
    config = read_json(folder / SAE_CFG_FILENAME)
    parsed = from_settings(config, read_weights(weights_file), weights_file)
    return _with_scale(parsed, folder / ACTIVATION_SCALER_CFG_FILENAME)


def from_settings(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], weights_file: Path | str
) -> Parsed:
    """The SAE with this configuration and these tensors of sae-lens."""
    architecture = config.get("architecture", "standard")
    if architecture not in {*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY}:
        raise UserError(
            f"{weights_file}: unknown architecture '{architecture}'"
            f"{did_you_mean(str(architecture), SAE_CLASS_REGISTRY)}; "
            "import the package that registers it with sae-lens"
        )
    settings, state = dict(config), dict(weights)
    if architecture in SAE_CLASS_REGISTRY:
        # Configurations before sae-lens 6 have other names; handle_config_defaulting translates them.
        settings = handle_config_defaulting(settings)
    else:
        settings, state = for_inference(settings, state, weights_file)
    state = _without_old_scale(state, weights_file)
    metadata = {**config, **settings.get("metadata", {})}
    notes: tuple[str, ...] = ()
    if settings.get("normalize_activations") == _SCALED:
        settings["normalize_activations"] = "none"
        notes = (
            "It was trained on activations scaled to an average norm of √d_in, and its files do not state "
            "the factor; as in sae-lens, it gets unscaled activations.",
        )
    return Parsed(
        config=config,
        weights=weights,
        weights_file=weights_file,
        settings=settings,
        state=state,
        hook=metadata.get("hook_name") or metadata.get("hook_point"),
        layer=whole(metadata.get("hook_layer", metadata.get("hook_point_layer"))),
        model=metadata.get("model_name"),
        k=whole(settings.get("k") or _trained_k(settings)),
        context=whole(metadata.get("context_size")),
        prepends_bos=metadata.get("prepend_bos"),
        notes=notes + _model_notes(metadata),
    )


def _trained_k(settings: Mapping[str, Any]) -> Any:
    """The k that an SAE with a threshold was trained with."""
    details = settings.get("metadata", {}).get("training_architecture_details")
    return details.get("k") if isinstance(details, dict) else None


def _model_notes(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    options = metadata.get("model_from_pretrained_kwargs")
    if not options:
        return ()
    stated = ", ".join(f"{name}={value}" for name, value in options.items())
    return (
        f"It was trained on transformer-lens's version of the model with {stated}; abench uses the model as "
        "it is.",
    )


def _without_old_scale(state: dict[str, Tensor], weights_file: Path | str) -> dict[str, Tensor]:
    """Versions before 6 saved a factor per latent, which is 1 unless the SAE was fine-tuned with it."""
    factor = state.pop("scaling_factor", None)
    if factor is not None and not torch.allclose(factor, torch.ones_like(factor)):
        raise UserError(
            f"{weights_file} has factors per latent from fine-tuning (scaling_factor), which sae-lens no "
            "longer applies: load it with sae-lens 5 and multiply the decoder's rows by them"
        )
    return state


def _with_scale(parsed: Parsed, file: Path) -> Parsed:
    """The same SAE with the factor that a checkpoint's activation scaler states."""
    factor = read_json(file).get("scaling_factor") if file.is_file() else None
    if not isinstance(factor, int | float) or parsed.config.get("normalize_activations") != _SCALED:
        return parsed
    note = (
        f"Activations were multiplied by {factor:.4g} in training; abench folds the factor into the weights."
    )
    return replace(parsed, scale=float(factor), config={**parsed.config, "scale": factor}, notes=(note,))


FORMAT = Format("sae-lens", find, parse, files=(SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME))
