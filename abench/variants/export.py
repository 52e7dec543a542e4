"""Trained SAEs as sae-lens folders: saving folds everything into the weights, loading checks the files."""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from sae_lens import SAE, TrainingSAE
from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from sae_lens.registry import SAE_CLASS_REGISTRY
from safetensors import SafetensorError

import abench.variants.saes  # noqa: F401 - registers abench's own architectures with sae-lens
from abench.errors import UserError, did_you_mean
from abench.variants.normalisation import defined_at_zero
from abench.variants.registry import import_architectures
from abench.version import __version__


def save_sae(
    sae: TrainingSAE[Any],
    folder: Path | str,
    *,
    scale: float,
    metadata: Mapping[str, Any],
    layer_norm: bool = False,
) -> None:
    """Write the inference SAE to folder: cfg.json and sae_weights.safetensors, readable by sae-lens alone.

    The SAE was trained on x·scale. The scale and the decoder's norms are folded into the weights, so the
    saved SAE takes x and has unit decoder rows. With `layer_norm`, the SAE was trained on standardised tokens
    times the scale, i.e. on (x − mean) / (std + 1e-5) with the unbiased std; sae-lens then does the same and
    undoes it after decoding. The given SAE is not modified. `metadata` (JSON values) is added to the
    configuration's metadata.
    """
    copy = deepcopy(sae)
    # sae-lens implements both folds for every architecture, including thresholds, but by itself applies the
    # second only to the top-k family. The order matters: the first changes the decoder's norms.
    copy.fold_activation_norm_scaling_factor(scale)
    copy.fold_W_dec_norm()
    copy.cfg.normalize_activations = "layer_norm" if layer_norm else "none"
    for key, value in {"abench_version": __version__, **metadata}.items():
        copy.cfg.metadata[key] = value
    copy.to("cpu").save_inference_model(Path(folder))


def load_sae(folder: Path | str, device: str = "cpu") -> SAE[Any]:
    """The inference SAE in a folder, on a device, with frozen weights.

    Unlike in sae-lens, an SAE that rescales tokens (`constant_norm_rescale`) is finite on tokens of norm 0.
    Raises UserError if the folder is not a complete sae-lens SAE or its architecture is not registered.
    """
    folder = Path(folder)
    for name in (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME):
        if not (folder / name).is_file():
            raise UserError(f"no SAE in {folder}: {name} is missing")
    _check_config(folder / SAE_CFG_FILENAME)
    try:
        sae: SAE[Any] = defined_at_zero(SAE.load_from_disk(folder, device=device).requires_grad_(False))
        return sae
    except SafetensorError as error:
        raise UserError(
            f"{folder / SAE_WEIGHTS_FILENAME} is damaged or incomplete ({error}); save or download it again"
        ) from None
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"the SAE in {folder} cannot be loaded on {device}: {error}") from error


def _check_config(path: Path) -> None:
    try:
        architecture = json.loads(path.read_text(encoding="utf-8")).get("architecture", "standard")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is not an SAE's configuration: {error}") from None
    if architecture not in SAE_CLASS_REGISTRY:
        import_architectures()
    if architecture not in SAE_CLASS_REGISTRY:
        raise UserError(
            f"{path}: unknown architecture '{architecture}'{did_you_mean(architecture, SAE_CLASS_REGISTRY)}; "
            "import the package that registers it with sae-lens, or give the folder of its variant with "
            "--plugins"
        )
