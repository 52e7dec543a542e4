"""What is exported of an SAE: its configuration in sae-lens's terms, its weights, and where it comes from."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.importing.recorded import is_given, open_recorded_sae
from abench.results.records import SAERecord
from abench.storage.bundle import Bundle
from abench.storage.files import write_text

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"


@dataclass(frozen=True)
class Origin:
    """Where an SAE that abench did not train comes from, without anything about this machine."""

    name: str
    """Its id on the hub, or the name of its folder or file."""
    local: bool
    format: str | None
    """The layout of its files, e.g. `sae-lens`; None in records that do not state it."""


def origin_of(record: SAERecord) -> Origin | None:
    """The origin of an SAE; None for one that abench trained and for an object in memory."""
    place = record.provenance.get("sae") if is_given(record) else None
    if place is None:
        return None
    local = Path(place).is_absolute()
    return Origin(Path(place).name if local else place, local, _understood(record).get("format"))


def config_of(source: Bundle, record: SAERecord) -> dict[str, Any]:
    """An SAE's sae-lens configuration, with what its record states about it in the metadata.

    That of an SAE that abench did not train is what was understood of it when it was scored.
    """
    if is_given(record):
        config = {"architecture": "unknown", "d_sae": record.labels["width"], **_stated_config(record)}
        return _with_metadata(config, _metadata_of_given(record, config))
    config = json.loads(source.read(CONFIG))
    tokens = record.spec.get("training", {}).get("tokens")
    return _with_metadata(config, {} if tokens is None else {"training_tokens": tokens})


def write_sae(source: Bundle, record: SAERecord, target: Path) -> dict[str, Any]:
    """Write cfg.json and sae_weights.safetensors to a folder that does not exist; returns the configuration.

    Raises UserError for an SAE whose files are gone or changed or were never in the results folder.
    """
    if is_given(record):
        config = _write_given(source, record, target)
    else:
        target.mkdir(parents=True)
        config = config_of(source, record)
        with source.local() as folder:
            shutil.copyfile(folder / WEIGHTS, target / WEIGHTS)
    write_text(target / CONFIG, json.dumps(config, indent=1) + "\n")
    return config


def _write_given(source: Bundle, record: SAERecord, target: Path) -> dict[str, Any]:
    sae = open_recorded_sae(source, record)
    if not hasattr(sae, "save_model"):
        raise UserError(f"the SAE {record.labels['variant']} is of a class that sae-lens does not have")
    sae.save_model(target)
    config = json.loads((target / CONFIG).read_text(encoding="utf-8"))
    return _with_metadata(config, _metadata_of_given(record, config))


def _metadata_of_given(record: SAERecord, config: dict[str, Any]) -> dict[str, Any]:
    """The site that was scored; model and context where the SAE's own files do not state them."""
    stated, origin = config.get("metadata", {}), origin_of(record)
    known = {"model_name": record.labels["model"], "context_size": record.spec["model"]["context"]}
    own = {name: value for name, value in known.items() if stated.get(name) is None}
    source = {} if origin is None else {"imported_from": origin.name, "imported_format": origin.format}
    return {**own, "hook_name": record.labels["site"], **source}


def _with_metadata(config: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return config | {"metadata": {**config.get("metadata", {}), **more}, "device": "cpu"}


def _understood(record: SAERecord) -> dict[str, Any]:
    understood: dict[str, Any] = record.provenance.get("understood", {})
    return understood


def _stated_config(record: SAERecord) -> dict[str, Any]:
    config: dict[str, Any] = _understood(record).get("config", {})
    return config
