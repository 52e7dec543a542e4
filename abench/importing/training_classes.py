"""SAEs that sae-lens saved during training, of architectures that have another class for inference."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from torch import Tensor

from abench.errors import UserError
from abench.importing.building import empty_sae
from abench.importing.checks import check_weights


def is_of_training(settings: Mapping[str, Any], state: Mapping[str, Tensor], file: Path | str) -> bool:
    """Whether tensors are those of an architecture's class for training rather than of that for inference."""
    architecture = settings.get("architecture", "standard")
    if architecture not in SAE_TRAINING_CLASS_REGISTRY:
        return False
    if architecture not in SAE_CLASS_REGISTRY:
        return True
    if set(state) == set(empty_sae(settings, file).state_dict()):
        return False
    training = _training_sae(settings, "meta", file)
    loaded = dict(state)
    training.process_state_dict_for_loading(loaded)
    return set(loaded) == set(training.state_dict())


def for_inference(
    settings: Mapping[str, Any], state: Mapping[str, Tensor], file: Path | str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and tensors of the inference class, as sae-lens converts them when training ends.

    Raises UserError if they are not those of the training class.
    """
    sae, loaded = _training_sae(settings, "cpu", file), dict(state)
    sae.process_state_dict_for_loading(loaded)
    check_weights(file, loaded, {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()})
    with torch.no_grad():
        sae.load_state_dict(loaded)
        converted = dict(sae.state_dict())
        sae.process_state_dict_for_saving_inference(converted)
    inference = sae.cfg.get_inference_sae_cfg_dict()
    inference["metadata"] = {**inference["metadata"], **settings.get("metadata", {})}
    return inference, {name: tensor.detach() for name, tensor in converted.items()}


def _training_sae(settings: Mapping[str, Any], device: str, file: Path | str) -> Any:
    sae_class, config_class = SAE_TRAINING_CLASS_REGISTRY[settings.get("architecture", "standard")]
    try:
        return sae_class(config_class.from_dict({**settings, "device": device, "dtype": "float32"}))
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise UserError(
            f"{file}: its configuration is not that of a {sae_class.__name__}: {error}"
        ) from error
