"""What a reader makes of the files of one SAE, before anything is checked or built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Parsed:
    """The content of an SAE's files, in sae-lens's terms."""

    config: Mapping[str, Any]
    """The configuration as its file states it; part of the identity."""
    weights: "Mapping[str, Tensor]"
    """The tensors as the file names them; part of the identity."""
    weights_file: Path | str
    """Named in messages about the weights."""
    settings: Mapping[str, Any]
    """sae-lens's configuration, with `architecture`."""
    state: "Mapping[str, Tensor]"
    """The tensors under the names and in the orientation that the architecture's class expects."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Name in `state` -> name in the file, for messages; only where they differ from sae-lens's."""
    hook: str | None = None
    """The place in the model, in the file's own terms."""
    layer: int | None = None
    """The block, where the files give it apart from the place."""
    reads_input: bool = False
    """Whether it reads what goes into the module that `hook` names, not what comes out."""
    model: str | None = None
    k: int | None = None
    l0: float | None = None
    context: int | None = None
    prepends_bos: bool | None = None
    fold: Callable[[Any], None] | None = None
    """Folds what was done to activations in training into the weights of the SAE that is built."""
    name: str | None = None
    """A better name than the folder's."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A layout of files. Every module of `abench.importing.formats` has one, called `FORMAT`."""

    name: str
    find: Callable[[Path], Path | None] = field(repr=False)
    """The file of weights, given a folder or a file, if it has this layout; None otherwise."""
    parse: Callable[[Path], Parsed] = field(repr=False)
    """The content of the SAE with this file of weights. Raises UserError."""
    files: tuple[str, ...]
    """Patterns of the names of its files, for downloading them from the hub."""
    version: int = 1
    """Part of the identity; raise it whenever the same files are turned into another function."""
