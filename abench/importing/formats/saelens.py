"""sae-lens folders: cfg.json and sae_weights.safetensors, of all versions, and its checkpoints."""

from collections.abc import Mapping
from dataclasses import replace
from operator import methodcaller
from pathlib import Path
from typing import Any

import torch
from sae_lens.constants import ACTIVATION_SCALER_CFG_FILENAME, SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors import SafetensorError
from torch import Tensor

from abench.errors import UserError
from abench.importing.building import check_architecture
from abench.importing.files import read_json, read_weights
from abench.importing.parsed import Format, Parsed
from abench.importing.settings import whole
from abench.importing.training_classes import for_inference, is_of_training
from abench.results.sae_folder import MARK

_OF_ALL_ACTIVATIONS = {
    "expected_average_only_in": "scaled to an average norm of √d_in",
    "covariance_whitening": "whitened",
}
"""Normalisation by statistics of all activations, which is folded into the weights when training ends."""


def find(path: Path) -> Path | None:
    """The weights of a sae-lens folder, given the folder or the file of weights.

    abench's own SAEs are such folders with a record, which another format reads.
    """
    folder = path.parent if path.name == SAE_WEIGHTS_FILENAME else path
    weights = folder / SAE_WEIGHTS_FILENAME
    return weights if weights.is_file() and not (folder / MARK).exists() else None


def parse(weights_file: Path) -> Parsed:
    """The SAE in a sae-lens folder, given its file of weights."""
    folder = weights_file.parent
    config = read_json(folder / SAE_CFG_FILENAME)
    parsed = from_settings(config, read_weights(weights_file), weights_file)
    return _with_scaler(parsed, folder / ACTIVATION_SCALER_CFG_FILENAME)


def from_settings(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], weights_file: Path | str
) -> Parsed:
    """The SAE with this configuration and these tensors of sae-lens."""
    architecture = config.get("architecture", "standard")
    check_architecture(architecture, {*SAE_CLASS_REGISTRY, *SAE_TRAINING_CLASS_REGISTRY}, weights_file)
    settings, state = dict(config), _without_old_scale(dict(weights), weights_file)
    if architecture in SAE_CLASS_REGISTRY:
        # Configurations before sae-lens 6 have other names; handle_config_defaulting translates them.
        settings = handle_config_defaulting(settings)
    if is_of_training(settings, state, weights_file):
        settings, state = for_inference(config, state, weights_file)
    metadata = {**config, **settings.get("metadata", {})}
    notes: tuple[str, ...] = ()
    unfolded = _OF_ALL_ACTIVATIONS.get(str(settings.get("normalize_activations")))
    if unfolded is not None:
        settings["normalize_activations"] = "none"
        notes = (
            f"It was trained on activations that were {unfolded}, and its files do not state how; as in "
            "sae-lens, it gets the activations as they are.",
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


def _with_scaler(parsed: Parsed, file: Path) -> Parsed:
    """The same SAE with what a checkpoint's activation scaler states, which sae-lens folds after training."""
    kind = parsed.config.get("normalize_activations")
    if kind not in _OF_ALL_ACTIVATIONS or not file.is_file():
        return parsed
    stated = read_json(file)
    scaler = ActivationScaler()
    try:
        scaler.load(file)
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{file} is damaged or incomplete ({error}); save or download it again") from error
    weights, whitening = dict(parsed.weights), scaler.whitening
    if whitening is not None:
        tensors = (whitening.mean, whitening.matrix, whitening.inverse_matrix)
        weights |= {f"whitening.{number}": tensor for number, tensor in enumerate(tensors)}
        fold = methodcaller("fold_activation_whitening", *tensors)
        note = "Activations were whitened in training; abench folds this into the weights, as sae-lens does."
        return replace(parsed, weights=weights, fold=fold, notes=(note,))
    if scaler.scaling_factor is None:
        return parsed
    note = f"Activations were multiplied by {scaler.scaling_factor:.4g} in training; abench folds it in."
    fold = methodcaller("fold_activation_norm_scaling_factor", scaler.scaling_factor)
    return replace(parsed, config={**parsed.config, "scaler": stated}, fold=fold, notes=(note,))


FORMAT = Format("sae-lens", find, parse, files=(SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME))
