"""The revisions of the hub data sets that a task reads."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from pydantic import BaseModel, Field, model_validator

Revisions = Mapping[str, str]
"""Hub id of a data set -> commit, tag or branch to read."""
AS_THEY_ARE: Revisions = MappingProxyType({})
"""No data set is pinned to a revision: each is read in its current state."""

_HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id and is not a local folder, which would be read instead."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).is_dir()


class HubData(BaseModel):
    """Options of a task that reads data sets from the hub."""

    repositories: ClassVar[tuple[str, ...]]
    """Hub ids of the data sets that the task reads by default."""

    revisions: Mapping[str, str] = Field(default_factory=dict)
    """Hub id -> commit, tag or branch to read; other data sets are read in their current state."""

    def all_repositories(self) -> tuple[str, ...]:
        """Hub ids that `revisions` may name: `repositories`, and those that other options name."""
        return self.repositories

    @model_validator(mode="after")
    def _known(self) -> "HubData":
        known = self.all_repositories()
        for repository in self.revisions:
            if repository not in known:
                raise ValueError(f"revisions: the task does not read '{repository}', only {', '.join(known)}")
        return self
