"""SAEs as sae-lens folders: the same weights, and a configuration in sae-lens's terms."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abench.results.jobs import sae_label
from abench.results.records import SAERecord
from abench.results.store import KEY_DIGITS
from abench.storage.files import write_text

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
REGISTERS = "abench.variants.saes"
"""The module whose import registers abench's own architectures with sae-lens."""


@dataclass(frozen=True)
class ExportedSAE:
    """An SAE in an exported folder."""

    record: SAERecord
    place: str
    """Its folder below the exported one, with forward slashes."""
    config: Mapping[str, Any]
    plain: bool
    """Whether sae-lens alone can load it."""

    @property
    def architecture(self) -> str:
        return str(self.config["architecture"])


def place_of(record: SAERecord) -> str:
    """MODEL/SITE/LABEL-KEY, the place of an SAE in a results folder and in an export."""
    labels = record.labels
    return f"{labels['model']}/{labels['site']}/{sae_label(labels)}-{record.key[:KEY_DIGITS]}"


def write_saes(saes: Iterable[tuple[Path, SAERecord]], folder: Path) -> list[ExportedSAE]:
    """Write each SAE's cfg.json and sae_weights.safetensors to a folder of its own below `folder`."""
    return [_written(source, record, folder) for source, record in saes]


def _written(source: Path, record: SAERecord, folder: Path) -> ExportedSAE:
    place = place_of(record)
    target = folder / place
    target.mkdir(parents=True)
    config = config_of(source, record)
    write_text(target / CONFIG, json.dumps(config, indent=1) + "\n")
    shutil.copyfile(source / WEIGHTS, target / WEIGHTS)
    return ExportedSAE(record, place, config, is_plain(str(config["architecture"])))


def config_of(source: Path, record: SAERecord) -> dict[str, Any]:
    """An SAE's sae-lens configuration, with the number of training tokens in its metadata."""
    config: dict[str, Any] = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    tokens = record.spec.get("training", {}).get("tokens")
    metadata = dict(config.get("metadata", {}))
    if tokens is not None:
        metadata.setdefault("training_tokens", tokens)
    return config | {"metadata": metadata, "device": "cpu"}


def is_plain(architecture: str) -> bool:
    """Whether sae-lens has this architecture without anyone registering it."""
    from sae_lens.registry import SAE_CLASS_REGISTRY

    import abench.variants.saes  # noqa: F401 - registers abench's own architectures

    known = SAE_CLASS_REGISTRY.get(architecture)
    return known is not None and known[0].__module__.split(".")[0] == "sae_lens"
