"""The options of a task that reads labelled texts, also from files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from .labelled_files import Column
from .only_if_set import OnlyIfSet


class LabelledData(OnlyIfSet):
    """Options for files of labelled texts."""

    only_if_set: ClassVar[tuple[str, ...]] = ("columns",)

    columns: Mapping[Column, str] = Field(default_factory=dict)
    """The names of the columns in files: `{text: sentence, label: topic}`; default: text, label, attribute
    (the second attribute, for scr) and split (train or test)."""
