"""The folder in which the weights of a model are, from whatever a user calls it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.lm.catalogue import find_model, weights_folder
from abench.names import safe_name


@dataclass(frozen=True)
class Place:
    """A folder with a model's weights."""

    folder: Path
    name: str
    eos_after_documents: bool = False


def place_of(source: Any) -> Place:
    """Where the weights of a name, a hub id, a folder or a file are; they are fetched or converted if needed.

    A folder is taken as it is. Raises UserError for a name that is not known, with near ones, for a synthetic
    model, and for anything but a string or a path.
    """
    if not isinstance(source, str | Path):
        raise UserError(
            f"a model is a name, a folder or a hub id, or a model of transformers with its tokenizer, not a "
            f"{type(source).__name__} alone"
        )
    folder = Path(source)
    if isinstance(source, Path) or folder.is_dir():
        return Place(folder, safe_name(folder.resolve().name))
    name, config = find_model(source)
    if config.synthetic is not None:
        raise UserError(f"{name} is a synthetic model, which reads no text: use abench.SyntheticModel")
    return Place(weights_folder(config), name, config.eos_after_documents)
