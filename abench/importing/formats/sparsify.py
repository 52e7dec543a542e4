"""sparsify's folders, named after what the SAE reads: cfg.json and sae.safetensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abench.errors import UserError, short
from abench.importing.files import read_json, read_weights
from abench.importing.parsed import Format, Parsed
from abench.importing.refusals import transcoder
from abench.importing.renaming import Renaming
from abench.importing.settings import needed, text, whole

_WEIGHTS, _CONFIG, _RUN = "sae.safetensors", "cfg.json", "config.json"
_TENSORS = Renaming(
    {"b_enc": "encoder.bias", "W_dec": "W_dec", "b_dec": "b_dec"}, {"W_enc": "encoder.weight"}
)


def find(path: Path) -> Path | None:
    """The weights in a folder of sparsify, given the folder or the file of weights."""
    weights = path if path.name == _WEIGHTS else path / _WEIGHTS
    return weights if weights.is_file() else None


def parse(weights_file: Path) -> Parsed:
    """The SAE in a file of weights and the cfg.json next to it; model and context from the folder above."""
    folder = weights_file.parent.resolve()
    config_file = weights_file.parent / _CONFIG
    config = read_json(config_file)
    _check(config, config_file)
    d_in, k = needed(config, "d_in", config_file), needed(config, "k", config_file)
    width = whole(config.get("num_latents")) or d_in * needed(config, "expansion_factor", config_file)
    # Earlier versions had signed SAEs, which keep the k latents of largest absolute value.
    architecture = "abstopk" if config.get("signed") else "topk"
    weights = read_weights(weights_file)
    run = read_json(folder.parent / _RUN) if (folder.parent / _RUN).is_file() else {}
    return Parsed(
        config=config,
        weights=weights,
        weights_file=weights_file,
        settings={"architecture": architecture, "d_in": d_in, "d_sae": width, "k": k},
        state=_TENSORS.applied(weights, weights_file),
        names=_TENSORS.names(),
        hook=folder.name,
        model=text(run.get("model")),
        k=k,
        context=whole(run.get("ctx_len")),
    )


def _check(config: Mapping[str, Any], file: Path) -> None:
    if config.get("transcode") or config.get("skip_connection"):
        raise transcoder(file, "transcode or skip_connection is set")
    activation = config.get("activation", "topk")
    if activation != "topk":
        raise UserError(
            f"{file}: abench does not know how an SAE with the activation {short(activation)} encodes; "
            "known: topk"
        )


FORMAT = Format("sparsify", find, parse, files=(_WEIGHTS, _CONFIG))
