"""An SAE that abench did not train, among the SAEs of a run. No I/O of its own."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from abench.config import DataSpec
from abench.importing import ImportedSAE
from abench.results.jobs import SCHEMA, Job, ModelRef
from abench.results.recorded import RecordedData
from abench.storage.bundle import Bundle
from abench.storage.keys import canonical_json, digest_of


@dataclass(frozen=True)
class GivenSAE(Job):
    """One SAE to score as it is.

    Its key depends on its weights, its configuration and the text it is scored on, not on its place.
    """

    model: ModelRef
    site: str
    name: str
    """Its name in tables."""
    k: int | None
    """Active latents per token, if its configuration states them."""
    width: int
    data: DataSpec
    """The text whose held-out part it is checked and scored on."""
    text: str | None
    """Identity of the text if it is on this machine (`abench.results.recorded.RecordedData`)."""
    source: ImportedSAE = field(compare=False)

    trained: ClassVar[bool] = False

    @property
    def signed(self) -> bool:
        return bool(self.source.signed)

    @property
    def label(self) -> str:
        return self.name

    def labels(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "site": self.site,
            "variant": self.name,
            "k": self.k,
            "width": self.width,
            "seed": None,
        }

    def spec(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model.spec(),
            "site": self.site,
            "given": {"identity": self.source.identity},
            "data": RecordedData.of(self.data, self.text).plain(),
        }

    @cached_property
    def canonical(self) -> str:
        return canonical_json(self.spec())

    @cached_property
    def key(self) -> str:
        return digest_of(self.canonical)

    def open(self, place: Bundle, device: str) -> Any:
        del place  # its files stay where they are
        return self.source.load(device)
