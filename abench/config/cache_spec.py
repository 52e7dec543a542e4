"""The activation cache of a run: where it is and how large it may become. Part of no key."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from abench.config.spec import Spec, Word
from abench.errors import short

TEMPORARY = "temporary"
"""In place of a folder: a cache in the results folder, which is removed when the run ends."""
_GIB = 2**30


class ActivationCacheSpec(Spec):
    """A folder in which runs share the activations that a language model computes from text.

    Also written as `FOLDER` or `FOLDER:SIZE`, with the size in GiB.
    """

    folder: Word = TEMPORARY
    """A folder that runs and hosts may share, or `temporary`: in the results folder, until the run ends."""
    size_gib: float = Field(50.0, gt=0, le=1e6)
    """Most disk space that the cache may take, in GiB."""

    @property
    def temporary(self) -> bool:
        return self.folder == TEMPORARY

    @property
    def size(self) -> int:
        """Most disk space in bytes."""
        return int(self.size_gib * _GIB)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return _parsed(value) if isinstance(value, str) else value


def _parsed(text: str) -> Mapping[str, Any]:
    folder, colon, size = text.rpartition(":")
    if not colon or not folder:
        return {"folder": text}
    try:
        return {"folder": folder, "size_gib": float(size)}
    except ValueError:
        if not size[:1].isdigit():
            return {"folder": text}  # a colon that is part of the folder's name
        raise ValueError(f"the size is a number of GiB, e.g. {folder}:50, not {short(size)}") from None
