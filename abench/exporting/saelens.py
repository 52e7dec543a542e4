"""SAEs as sae-lens folders: the same weights, and a configuration in sae-lens's terms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.exporting.sources import Origin, origin_of, write_sae
from abench.importing.recorded import is_given
from abench.results.jobs import sae_label
from abench.results.records import SAERecord
from abench.results.store import KEY_DIGITS
from abench.storage.bundle import Bundle

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

    @property
    def given(self) -> bool:
        """Whether abench did not train it."""
        return is_given(self.record)

    @property
    def origin(self) -> Origin | None:
        """Where it comes from if abench did not train it."""
        return origin_of(self.record)


def place_of(record: SAERecord) -> str:
    """MODEL/SITE/NAME-KEY, the place of an SAE in an export.

    For an SAE that abench trained, this is also its place in a results folder.
    """
    labels = record.labels
    name = labels["variant"] if is_given(record) else sae_label(labels)
    return f"{labels['model']}/{labels['site']}/{name}-{record.key[:KEY_DIGITS]}"


def write_saes(saes: Iterable[tuple[Bundle, SAERecord]], folder: Path) -> tuple[list[ExportedSAE], list[str]]:
    """Write each SAE's cfg.json and sae_weights.safetensors to a folder of its own below `folder`.

    Returns the SAEs, and a sentence about each that could not be written. Raises UserError if none could.
    """
    written: list[ExportedSAE] = []
    notes: list[str] = []
    for source, record in saes:
        try:
            written.append(_written(source, record, folder))
        except UserError as error:
            notes.append(f"left out: {error}")
    if not written:
        raise UserError(f"there are no SAEs to export; {'; '.join(notes)}")
    return written, notes


def _written(source: Bundle, record: SAERecord, folder: Path) -> ExportedSAE:
    place = place_of(record)
    config = write_sae(source, record, folder / place)
    return ExportedSAE(record, place, config, is_plain(str(config["architecture"])))


def is_plain(architecture: str) -> bool:
    """Whether sae-lens has this architecture without anyone registering it."""
    from sae_lens.registry import SAE_CLASS_REGISTRY

    import abench.variants.saes  # noqa: F401 - registers abench's own architectures

    known = SAE_CLASS_REGISTRY.get(architecture)
    return known is not None and known[0].__module__.split(".")[0] == "sae_lens"
