"""dictionary_learning's folders: ae.pt, of which only tensors are read, and config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from abench.errors import UserError, did_you_mean
from abench.importing.files import read_json, read_weights
from abench.importing.parsed import Format, Parsed
from abench.importing.refusals import transcoder
from abench.importing.renaming import Renaming
from abench.importing.settings import part, text, whole

_WEIGHTS, _CONFIG = "ae.pt", "config.json"
_LINEAR = {"W_enc": "encoder.weight", "W_dec": "decoder.weight"}
_TOP = Renaming({"b_enc": "encoder.bias", "b_dec": "b_dec"}, _LINEAR, unused=("k", "threshold"))
_PLAIN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


@dataclass(frozen=True)
class _Dictionary:
    """How one of the library's dictionaries is written in sae-lens's terms."""

    architecture: str
    tensors: Renaming
    subtracts_b_dec: bool = True
    """Whether the decoder's bias is subtracted before encoding."""
    one_threshold: bool = False
    """Whether all latents share the threshold."""
    normalised: bool = False
    """Whether the library gives the decoder's columns norm 1 when it loads the dictionary."""


_DICTIONARIES = {
    "AutoEncoder": _Dictionary(
        "standard", Renaming({"b_enc": "encoder.bias", "b_dec": "bias"}, _LINEAR), normalised=True
    ),
    "AutoEncoderNew": _Dictionary(
        "standard",
        Renaming({"b_enc": "encoder.bias", "b_dec": "decoder.bias"}, _LINEAR),
        subtracts_b_dec=False,
    ),
    "GatedAutoEncoder": _Dictionary(
        "gated",
        Renaming(
            {"b_dec": "decoder_bias", "b_gate": "gate_bias", "b_mag": "mag_bias", "r_mag": "r_mag"}, _LINEAR
        ),
    ),
    "AutoEncoderTopK": _Dictionary("topk", _TOP),
    "BatchTopKSAE": _Dictionary("jumprelu", _TOP, one_threshold=True),
    "MatryoshkaBatchTopKSAE": _Dictionary(
        "jumprelu", Renaming(_PLAIN, {}, unused=("k", "threshold", "group_sizes")), one_threshold=True
    ),
    "JumpReluAutoEncoder": _Dictionary(
        "jumprelu", Renaming({**_PLAIN, "threshold": "threshold"}, {}), subtracts_b_dec=False
    ),
}


def find(path: Path) -> Path | None:
    """The weights of a dictionary: ae.pt in a folder, or a checkpoint, below the folder of config.json."""
    if path.is_file() and path.suffix == ".pt" and path.stem.split("_")[0] == "ae":
        return path
    weights = path / _WEIGHTS
    return weights if weights.is_file() else None


def parse(weights_file: Path) -> Parsed:
    """The dictionary in a file of weights and the config.json in its folder or, for a checkpoint, above."""
    config_file = _config_of(weights_file)
    config = read_json(config_file)
    trainer, buffer = part(config, "trainer"), part(config, "buffer")
    name = text(trainer.get("dict_class"))
    if name not in _DICTIONARIES:
        near = did_you_mean(name or "", _DICTIONARIES)
        raise UserError(f"{config_file}: abench does not know how the dictionary {name} encodes{near}")
    if buffer.get("io") == "in_and_out":
        raise transcoder(config_file, "io: in_and_out")
    dictionary, weights = _DICTIONARIES[name], read_weights(weights_file)
    state = dictionary.tensors.applied(weights, weights_file)
    notes: tuple[str, ...] = ()
    if dictionary.one_threshold:
        state["threshold"], notes = _threshold(weights, state["b_enc"], weights_file)
    if dictionary.normalised:
        state = _normalised(state)
    settings = {
        "architecture": dictionary.architecture,
        "d_in": whole(trainer.get("activation_dim")) or state["W_enc"].shape[0],
        "d_sae": whole(trainer.get("dict_size")) or state["W_enc"].shape[-1],
        "apply_b_dec_to_input": dictionary.subtracts_b_dec,
    }
    k = whole(trainer.get("k"))
    if dictionary.architecture == "topk":
        settings["k"] = k if k is not None else _saved_k(weights, weights_file)
    return Parsed(
        config=config,
        weights=weights,
        weights_file=weights_file,
        settings=settings,
        state=state,
        names=dictionary.tensors.names(),
        hook=text(trainer.get("submodule_name")),
        layer=whole(trainer.get("layer")),
        reads_input=buffer.get("io") == "in",
        model=text(trainer.get("lm_name")),
        k=k if k is not None else whole(trainer.get("target_l0")),
        context=whole(buffer.get("ctx_len")),
        notes=notes,
    )


def _config_of(weights_file: Path) -> Path:
    for folder in (weights_file.parent, weights_file.parent.parent):
        if (folder / _CONFIG).is_file():
            return folder / _CONFIG
    raise UserError(
        f"{weights_file.parent} has no {_CONFIG}, which states the class of the dictionary in "
        f"{weights_file.name}: put it there, as dictionary_learning saves it"
    )


def _threshold(weights: Mapping[str, Tensor], like: Tensor, file: Path) -> tuple[Tensor, tuple[str, ...]]:
    """The threshold of each latent, and a sentence if it was never set in training."""
    if "threshold" not in weights or weights["threshold"].numel() != 1:
        raise UserError(f"{file} has no tensor 'threshold' with one value, which its class encodes with")
    value = float(weights["threshold"])
    note = f"Its threshold is {value:g}, i.e. was not set in training: all positive latents are active."
    return torch.full_like(like, value), (note,) if value < 0 else ()


def _saved_k(weights: Mapping[str, Tensor], file: Path) -> int:
    if "k" not in weights:
        raise UserError(f"{file} and its configuration do not state k, the number of active latents")
    return int(weights["k"])


def _normalised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same function with decoder rows of norm 1, unless they have it already, as the library loads it."""
    norms = state["W_dec"].norm(dim=-1)
    if torch.allclose(norms, torch.ones_like(norms)) or state["b_enc"].shape != norms.shape:
        return state
    return state | {
        "W_dec": state["W_dec"] / norms[:, None],
        "W_enc": state["W_enc"] * norms,
        "b_enc": state["b_enc"] * norms,
    }


FORMAT = Format("dictionary_learning", find, parse, files=(_WEIGHTS, _CONFIG))
