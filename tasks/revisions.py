"""Which state of a hub data set a task reads."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from pydantic import BaseModel, Field, model_validator

Revisions = Mapping[str, str]
"""Hub id of a data set -> commit, tag or branch that is read."""
AS_THEY_ARE: Revisions = MappingProxyType({})
"""No data set is held at a revision: each is read as it is now."""

_HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a hub id and is no folder here, which would be read instead."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).is_dir()


class HubData(BaseModel):
    """Options of a task that reads data sets of the hub."""

    repositories: ClassVar[tuple[str, ...]]
    """Hub ids of the data sets that the task reads by itself."""

    revisions: Mapping[str, str] = Field(default_factory=dict)
    """Hub id -> commit, tag or branch that is read; whatever is not named is read as it is now."""

    def all_repositories(self) -> tuple[str, ...]:
        """Hub ids that `revisions` may name; more than `repositories` where options name some."""
        return self.repositories

    @model_validator(mode="after")
    def _known(self) -> "HubData":
        known = self.all_repositories()
        for repository in self.revisions:
            if repository not in known:
                raise ValueError(f"revisions: the task does not read '{repository}', only {', '.join(known)}")
        return self
