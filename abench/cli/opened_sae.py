"""A recorded SAE opened for looking at its latents, with the model and the text that its record names."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abench.config import DataSpec
    from abench.lm.models import LanguageModel
    from abench.results.store import SAERecord
    from abench.sae import SAE
    from abench.storage.bundle import Bundle


@dataclass(frozen=True)
class OpenedSAE:
    """An SAE of a results folder, on the CPU."""

    place: "Bundle"
    record: "SAERecord"
    lm: "LanguageModel"
    sae: "SAE"
    data: "DataSpec"

    @property
    def site(self) -> str:
        return str(self.record.labels["site"])

    @property
    def context(self) -> int:
        """Number of tokens per row."""
        return int(self.record.spec["model"]["context"])


def open_sae(results: Path, name: str, model: str | None) -> OpenedSAE:
    """The SAE that a folder, a label or the beginning of a key names; `model` is where its model is now.

    Raises UserError if there is no such SAE, if it or its model cannot be opened, or if its text has changed.
    """
    from abench.importing.recorded import open_recorded_sae
    from abench.results.finding import find_sae
    from abench.results.recorded import recorded_data
    from abench.runs.recorded_model import open_recorded_model

    place, record = find_sae(results, name)
    data = recorded_data(record.spec, record.provenance)
    lm = open_recorded_model(record, "cpu", model)
    return OpenedSAE(place, record, lm, open_recorded_sae(place, record), data)
