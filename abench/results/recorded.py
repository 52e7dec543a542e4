"""The training data in an SAE's record, written and read with one schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abench.config import DataSpec
from abench.data import manuals
from abench.errors import UserError
from abench.storage.content import content_hash


class RecordedData(DataSpec):
    """A `DataSpec` together with the identity of text on this machine."""

    content: str | None = None
    """Hash of the text's content if it is a local file; for manuals, the packages' versions and a hash."""

    @classmethod
    def of(cls, data: DataSpec, content: str | None) -> "RecordedData":
        """The record of a run's data."""
        return cls(**data.model_dump(), content=content)

    def plain(self) -> dict[str, Any]:
        """The record as plain JSON, which is part of an SAE's key; without `content` if that is None."""
        return self.model_dump(mode="json", exclude={"content"} if self.content is None else None)

    def data(self) -> DataSpec:
        """The data of the run."""
        return DataSpec(**self.model_dump(exclude={"content"}))


def text_place(data: DataSpec) -> dict[str, str]:
    """The absolute path of the text if it is a local file, for the provenance; else empty."""
    if data.source != "file" or data.dataset is None:
        return {}
    return {"text": str(Path(data.dataset).resolve())}


def recorded_data(spec: Mapping[str, Any], provenance: Mapping[str, Any]) -> DataSpec:
    """The data that an SAE was trained or scored on, from its record; a local file is verified.

    Raises UserError for a file that is missing or has changed, for manuals of other packages, and for a
    record that cannot be read.
    """
    try:
        # An SAE that abench did not train has no training data, only the text on which it was scored.
        recorded = RecordedData.model_validate(spec["data"] if "data" in spec else provenance["data"])
    except (KeyError, ValidationError) as error:
        raise UserError(f"the SAE's record does not state its training data: {error}") from error
    data = recorded.data()
    if data.source == "manuals" and recorded.content not in (None, present := manuals.identity()):
        how = manuals.difference(recorded.content, present)
        raise UserError(f"the SAE was trained on the manuals of other packages: {how}")
    if recorded.content is None or data.dataset is None:
        return data
    places = [Path(str(provenance.get("text", data.dataset))), Path(data.dataset)]
    there = [place for place in places if place.exists()]
    for place in there:
        if content_hash(place) == recorded.content:
            return data.model_copy(update={"dataset": str(place)})
    if there:
        raise UserError(
            f"the text {there[0]} has changed since the SAE was trained on it: restore the former content"
        )
    raise UserError(f"the SAE was trained on the text {places[0]}, which does not exist: restore it")
