"""SAEs that sae-lens saved during training, of architectures that have another class for inference."""

from pathlib import Path
from typing import Any

import torch
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from torch import Tensor

from abench.errors import UserError
from abench.importing.checks import check_weights


def for_inference(
    settings: dict[str, Any], state: dict[str, Tensor], weights_file: Path | str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and tensors of the inference class, as sae-lens converts them when training ends.

    Raises UserError if they are not those of the training class.
    """
    sae_class, config_class = SAE_TRAINING_CLASS_REGISTRY[settings["architecture"]]
    try:
        config = config_class.from_dict({**settings, "device": "cpu", "dtype": "float32"})
        sae = sae_class(config)
    except (TypeError, ValueError, AssertionError, KeyError) as error:
        raise UserError(
            f"{weights_file}: its configuration is not that of a {sae_class.__name__}: {error}"
        ) from error
    expected = {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
    sae.process_state_dict_for_loading(state)
    check_weights(weights_file, state, expected)
    with torch.no_grad():
        sae.load_state_dict(state)
        converted = dict(sae.state_dict())
        sae.process_state_dict_for_saving_inference(converted)
    inference = config.get_inference_sae_cfg_dict()
    return inference, {name: tensor.detach() for name, tensor in converted.items()}
