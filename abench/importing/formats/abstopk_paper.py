"""Checkpoints of the repository of the AbsTopK paper: sae_STEP.safetensors and config_STEP.json."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from abench.errors import UserError, did_you_mean
from abench.importing.files import read_json, read_weights
from abench.importing.parsed import Format, Parsed
from abench.importing.renaming import Renaming
from abench.importing.settings import flag, needed, text, whole

_PLAIN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
_UNCHANGED = Renaming(_PLAIN, {})
_BATCH_LEVEL = (
    "The paper's code keeps k latents per token on average over a batch, so that a token's codes depend on "
    "the other tokens of the batch; abench keeps k latents of each token, which is the paper's definition "
    "and the same for batches of one token."
)


@dataclass(frozen=True)
class _Kind:
    """How the SAEs that the repository calls by one name encode."""

    architecture: str
    tensors: Renaming = _UNCHANGED
    note: str | None = None
    subtracts_b_dec: bool = True
    finish: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict


def _without_bias(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's bias is saved but never used, except by JumpReLU."""
    return state | {"b_enc": state["b_enc"].new_zeros(state["b_enc"].shape)}


def _with_threshold(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The threshold is saved as its logarithm."""
    return state | {"threshold": state["threshold"].exp()}


_KINDS = {
    "batchabsolutek": _Kind("abstopk", note=_BATCH_LEVEL, finish=_without_bias),
    "batchtopk": _Kind("topk", note=_BATCH_LEVEL, finish=_without_bias),
    "jumprelu": _Kind(
        "jumprelu",
        Renaming({**_PLAIN, "threshold": "jumprelu.log_threshold"}, {}),
        subtracts_b_dec=False,
        finish=_with_threshold,
    ),
}
"""`sae_name` of the configuration -> how such an SAE encodes."""


def find(path: Path) -> Path | None:
    """The weights of a checkpoint, given their file or the folder of a single checkpoint."""
    if path.is_file():
        return path if path.match("sae_*.safetensors") and _config_of(path).is_file() else None
    steps = [file for file in sorted(path.glob("sae_*.safetensors")) if _config_of(file).is_file()]
    if len(steps) > 1:
        raise UserError(
            f"{path} holds {len(steps)} checkpoints; give the file of one: "
            f"{', '.join(file.name for file in steps[:4])}"
        )
    return steps[0] if steps else None


def parse(weights_file: Path) -> Parsed:
    """The SAE of one checkpoint."""
    config_file = _config_of(weights_file)
    config = read_json(config_file)
    name = text(config.get("sae_name"))
    if name not in _KINDS:
        raise UserError(
            f"{config_file}: abench does not know how the paper's SAEs '{name}' encode"
            f"{did_you_mean(name or '', _KINDS)}"
        )
    kind, weights = _KINDS[name], read_weights(weights_file)
    k = whole(config.get("k"))
    settings: dict[str, Any] = {
        "architecture": kind.architecture,
        "d_in": needed(config, "act_size", config_file),
        "d_sae": needed(config, "dict_size", config_file),
        "apply_b_dec_to_input": kind.subtracts_b_dec,
        "normalize_activations": "layer_norm" if flag(config.get("input_unit_norm")) else "none",
    }
    if kind.architecture != "jumprelu":
        settings["k"] = needed(config, "k", config_file)
    return Parsed(
        config=config,
        weights=weights,
        weights_file=weights_file,
        settings=settings,
        state=kind.finish(kind.tensors.applied(weights, weights_file)),
        names=kind.tensors.names(),
        hook=text(config.get("hook_point")),
        layer=whole(config.get("layer")),
        model=text(config.get("model_name")),
        k=None if kind.architecture == "jumprelu" else k,
        context=whole(config.get("seq_len")),
        name=_name(config, weights_file),
        notes=(kind.note,) if kind.note else (),
    )


def _config_of(weights_file: Path) -> Path:
    return weights_file.with_name(f"config_{weights_file.stem.removeprefix('sae_')}.json")


def _name(config: Mapping[str, Any], weights_file: Path) -> str:
    step = weights_file.stem.removeprefix("sae_")
    return f"{text(config.get('name')) or weights_file.parent.resolve().name}_{step}"


FORMAT = Format("abstopk-paper", find, parse, files=("sae_*.safetensors", "config_*.json"))
