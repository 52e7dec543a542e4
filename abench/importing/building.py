"""sae-lens objects from what a reader parsed. The classes are those that abench knows fast routines for."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.registry import SAE_CLASS_REGISTRY

import abench.variants.saes  # noqa: F401 - registers abench's own architectures with sae-lens
from abench.errors import UserError, did_you_mean, short
from abench.importing.checks import check_weights
from abench.importing.parsed import Parsed
from abench.importing.refusals import transcoder
from abench.variants.normalisation import defined_at_zero


def check_architecture(architecture: Any, known: Collection[str], file: Path | str) -> None:
    """Raise UserError unless sae-lens knows an architecture."""
    if not isinstance(architecture, str) or architecture not in known:
        raise UserError(
            f"{file}: unknown architecture {short(architecture)}{did_you_mean(str(architecture), known)}; "
            "import the package that registers it with sae-lens"
        )


def sae_class_of(settings: Mapping[str, Any], file: Path | str) -> type[Any]:
    """The class for sae-lens's settings; raises UserError for one that abench does not know or score."""
    architecture = settings["architecture"]
    check_architecture(architecture, SAE_CLASS_REGISTRY, file)
    sae_class, config_class = SAE_CLASS_REGISTRY[architecture]
    names = {each.name for each in fields(config_class)}
    if "d_out" in names:
        raise transcoder(file, architecture)
    if "n_attn_layers" in names:
        raise UserError(
            f"{file} ({architecture}) encodes a token together with the tokens before it; abench scores SAEs "
            "that encode each token by itself"
        )
    if settings.get("reshape_activations", "none") != "none":
        raise UserError(
            f"{file} reads the outputs of attention heads (hook_z), which is none of abench's sites; "
            "an SAE at attn_out reads what they add to the residual stream"
        )
    known: type[Any] = sae_class
    return known


def empty_sae(stated: Mapping[str, Any], file: Path | str) -> SAE[Any]:
    """The SAE without weights, which takes no memory; raises UserError for an impossible configuration."""
    sae_class = sae_class_of(stated, file)
    _, config_class = SAE_CLASS_REGISTRY[stated["architecture"]]
    settings = {**stated, "dtype": "float32", "device": "meta"}
    for size in ("d_in", "d_sae"):
        if not isinstance(settings.get(size), int) or settings[size] < 1:
            raise UserError(f"{file}: the configuration does not state {size}, a whole number from 1")
    try:
        config = config_class.from_dict(settings)
        # A warning about transformer-lens's options for the model, which is loaded without transformer-lens.
        config.metadata.model_from_pretrained_kwargs = None
        sae: SAE[Any] = sae_class(config)
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise UserError(
            f"{file}: its configuration is not that of a {sae_class.__name__}: {error}"
        ) from error
    return sae


def checked(parsed: Parsed) -> SAE[Any]:
    """The SAE without weights, after checking that the tensors are those that its class expects, and finite.

    Raises UserError.
    """
    file, empty = parsed.weights_file, empty_sae(parsed.settings, parsed.weights_file)
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    check_weights(file, parsed.state, expected, parsed.names)
    width, config = empty.cfg.d_sae, empty.cfg
    if hasattr(config, "k") and not (isinstance(config.k, int) and 0 < config.k <= width):
        raise UserError(
            f"{file}: k must be a whole number between 1 and the {width} latents, but it is {short(config.k)}"
        )
    return empty


def build(parsed: Parsed, device: str) -> SAE[Any]:
    """The SAE in float32 on a device, with frozen weights; finite on tokens of norm 0."""
    sae = empty_sae(parsed.settings, parsed.weights_file)
    sae.cfg.device = device
    tensors = {
        name: tensor.detach().to(device, torch.float32).contiguous() for name, tensor in parsed.state.items()
    }
    sae.load_state_dict(_own(tensors, parsed.weights), assign=True)
    sae = sae.to(device=device).requires_grad_(False)
    if parsed.fold is not None:
        parsed.fold(sae)
    ready: SAE[Any] = defined_at_zero(sae)
    return ready


def _own(tensors: dict[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors that share no memory with the file, so that a file that is overwritten changes no SAE."""
    taken = {tensor.untyped_storage().data_ptr() for tensor in read.values()}
    return {n: t.clone() if t.untyped_storage().data_ptr() in taken else t for n, t in tensors.items()}
