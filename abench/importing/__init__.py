"""SAEs that abench did not train: read, understood and turned into objects that abench can score.

Importing this package is fast: torch and sae-lens are imported when an SAE is read.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abench.importing.imported import ImportedSAE, Promise

if TYPE_CHECKING:
    from abench.importing.reading import read_sae
    from abench.importing.trust import findings

__all__ = ["ImportedSAE", "Promise", "findings", "read_sae"]

_LATER = {"findings": "trust", "read_sae": "reading"}
"""Name -> module, for names whose modules import torch and sae-lens."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"abench.importing.{_LATER[name]}"), name)
    raise AttributeError(f"module 'abench.importing' has no attribute '{name}'")
