"""The text of an SAE as its record has it: written and read back by one schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abench.config import DataSpec
from abench.content import content_hash
from abench.errors import UserError


class RecordedData(DataSpec):
    """A `DataSpec` together with what identifies the text of a local file."""

    content: str | None = None
    """Hash of the text's content where it is a local file."""

    @classmethod
    def of(cls, data: DataSpec, content: str | None) -> "RecordedData":
        """What is recorded of the data of a run."""
        return cls(**data.model_dump(), content=content)

    def plain(self) -> dict[str, Any]:
        """As plain JSON, which is part of an SAE's key; without a content where there is none."""
        return self.model_dump(mode="json", exclude={"content"} if self.content is None else None)

    def data(self) -> DataSpec:
        """The data of the run."""
        return DataSpec(**self.model_dump(exclude={"content"}))


def text_place(data: DataSpec) -> dict[str, str]:
    """Where the text lies, if it is a local file: for the provenance, so that it is found from any folder."""
    if data.source != "file" or data.dataset is None:
        return {}
    return {"text": str(Path(data.dataset).resolve())}


def recorded_data(spec: Mapping[str, Any], provenance: Mapping[str, Any]) -> DataSpec:
    """The data that an SAE was trained on, from its record; a local file is there and has the same content.

    Raises UserError for a file that is gone or has changed, and for a record that cannot be read.
    """
    try:
        recorded = RecordedData.model_validate(spec["data"])
    except (KeyError, ValidationError) as error:
        raise UserError(f"the SAE's record does not tell what it was trained on: {error}") from error
    data = recorded.data()
    if recorded.content is None or data.dataset is None:
        return data
    places = [Path(str(provenance.get("text", data.dataset))), Path(data.dataset)]
    there = [place for place in places if place.exists()]
    for place in there:
        if content_hash(place) == recorded.content:
            return data.model_copy(update={"dataset": str(place)})
    if there:
        raise UserError(
            f"the text {there[0]} has changed since the SAE was trained on it: put the former content back"
        )
    raise UserError(f"the SAE was trained on the text {places[0]}, which is not there: put it back")
