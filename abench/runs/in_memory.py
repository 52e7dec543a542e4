"""SAEs in memory as SAEs of a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abench.errors import UserError
from abench.importing import ImportedSAE, read_sae
from abench.importing.imported import IN_MEMORY
from abench.importing.placing import place_of
from abench.importing.signedness import can_be_negative
from abench.latents.anyones import AnyonesSAE, as_sae
from abench.names import safe_name
from abench.runs.given_saes import Given, usable_of
from abench.runs.opened_model import fingerprint


def given_in_memory(saes: Mapping[str, Any], *, signed: bool | None) -> Given:
    """SAEs by the names that they have in tables: objects, or paths and hub ids of SAEs.

    Objects that cannot be used are refused; the others go on. Raises UserError for a mapping without SAEs.
    """
    if not saes:
        raise UserError("there is no SAE to score: give one, or a dict of names and SAEs")
    return usable_of(
        [(name, (name, each)) for name, each in saes.items()], lambda pair: _named(*pair, signed)
    )


def by_name(saes: Any) -> dict[str, Any]:
    """SAEs by name; one alone is named after its class, or its file."""
    if isinstance(saes, Mapping):
        return {str(name): each for name, each in saes.items()}
    return {Path(saes).name if isinstance(saes, str | Path) else type(saes).__name__: saes}


def _named(name: str, each: Any, signed: bool | None) -> ImportedSAE:
    if isinstance(each, str | Path):
        return replace(read_sae(each), name=safe_name(name))
    sae = as_sae(each, signed=signed)
    known = not isinstance(sae, AnyonesSAE)
    stated = getattr(sae.cfg, "metadata", None)
    place = place_of(getattr(stated, "hook_name", None))
    return ImportedSAE(
        name=safe_name(name),
        source=f"an object of the class {type(each).__qualname__}",
        format=IN_MEMORY,
        sae_class=type(each).__name__,
        d_in=int(sae.cfg.d_in),
        width=int(sae.cfg.d_sae),
        identity=_identity(each, sae),
        site=place.site,
        model=getattr(stated, "model_name", None),
        k=getattr(sae.cfg, "k", None),
        context=getattr(stated, "context_size", None),
        signed=signed if signed is not None else (can_be_negative(sae) if known else None),
        loader=lambda device: _on(sae, device),
    )


def _on(sae: Any, device: str) -> Any:
    if sae.device.type != torch.device(device).type:
        raise UserError(f"the SAE is on {sae.device} and the model on {device}: move one of them")
    return sae


def _identity(each: Any, sae: Any) -> str:
    """A hash of an object's tensors, its class and the codes of some fixed activations.

    The codes are there because two classes, or two settings of one, can use the same weights differently.
    """
    tensors: dict[str, Tensor] = {"W_dec": sae.W_dec}
    tensors |= dict(each.state_dict()) if isinstance(each, torch.nn.Module) else _tensors_in(vars(each))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, sae.cfg.d_in, generator=generator).to(sae.device, sae.dtype)
    with torch.no_grad():
        codes = sae.encode(x).float()
    return fingerprint(tensors | {"codes of fixed activations": codes}, type(each).__qualname__)


def _tensors_in(attributes: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in attributes.items() if isinstance(value, Tensor)}
