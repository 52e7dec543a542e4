"""The options of a task that reads labelled texts, also from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from .labelled_files import Column


class LabelledData(BaseModel):
    """Options for files of labelled texts. Those that are not set are in no key."""

    only_if_set: ClassVar[tuple[str, ...]] = ("columns",)

    columns: Mapping[Column, str] = Field(default_factory=dict)
    """The names of the columns in files: `{text: sentence, label: topic}`; default: text, label, attribute
    (the second attribute, for scr) and split (train or test)."""

    @model_serializer(mode="wrap")
    def _without_unset(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = whole(self)
        return {name: value for name, value in dumped.items() if value or name not in self.only_if_set}
