"""How large a language model is, without opening it: from its files, else from its configuration.

Needs neither torch nor transformers. The numbers decide nothing about results; they are for prices.
"""

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from abench.config import ModelConfig
from abench.errors import UserError
from abench.lm.model_files import shapes_of
from abench.lm.origins import origin_of

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
"""The number of a block in the name of a tensor, as in `model.layers.3.mlp.up_proj.weight` or `h.3.attn`."""

_TOLERANCE = 0.01


@dataclass(frozen=True)
class Dimensions:
    """The sizes that the cost of a forward pass depends on."""

    n_layers: int
    d_model: int
    block_parameters: int
    """Weights of one block; each token is multiplied with all of them."""
    vocabulary: int | None
    """Number of tokens; None if not known."""
    parameters: int
    """All weights, embeddings included."""
    source: Literal["weights", "configuration", "estimate"]
    """What they were taken from."""


def dimensions_of(config: ModelConfig) -> Dimensions:
    """The sizes of a language model: of its weights if they are here, else configured, else estimated.

    A block without a configured size counts 12 d² weights (Kaplan et al. 2020), which is 10 to 40 % too few
    for most recent models.
    """
    folder = origin_of(config).folder()
    if folder is not None and folder.is_dir():
        try:
            found = _of_folder(folder, config)
        except (UserError, OSError):
            found = None  # a damaged folder is reported when it is opened; a price does not need it
        if found is not None:
            return found
    block = config.block_parameters or 12 * config.d_model**2
    embedding = (config.vocabulary or 0) * config.d_model * (1 if config.tied_embeddings else 2)
    return Dimensions(
        config.n_layers,
        config.d_model,
        block,
        config.vocabulary,
        config.n_layers * block + embedding,
        "estimate" if config.block_parameters is None else "configuration",
    )


def other_dimensions(config: ModelConfig, folder: Path) -> str | None:
    """A sentence if the weights contradict `block_parameters` or `vocabulary` of the configuration.

    It is no error, because no result depends on them and prices use the weights themselves.
    """
    found = _of_folder(folder, config)
    if found is None:
        return None
    for name, here in (("block_parameters", found.block_parameters), ("vocabulary", found.vocabulary)):
        stated = getattr(config, name)
        # Some files also hold buffers, such as the frequencies of rotary embeddings.
        if stated is not None and here is not None and abs(stated - here) > _TOLERANCE * here:
            return (
                f"{config.title} is configured with {name} {stated:,}, but the weights in {folder} have "
                f"{here:,}: correct the model's YAML file, from which prices without weights are made"
            )
    return None


def _of_folder(folder: Path, config: ModelConfig) -> Dimensions | None:
    """The sizes of the weights in a folder; None if its tensors are not named as those of blocks."""
    # A tensor of four dimensions is a mask of attention that some files hold.
    shapes = {name: shape for name, shape in shapes_of(folder).items() if len(shape) < 4}
    block = sum(
        prod(shape) for name, shape in shapes.items() if (m := _BLOCK.search(name)) and int(m[1]) == 0
    )
    rest = [shape for name, shape in shapes.items() if not _BLOCK.search(name)]
    rows = max((shape[0] for shape in rest if len(shape) == 2 and shape[1] == config.d_model), default=None)
    if not block or rows is None:
        return None
    parameters = sum(map(prod, shapes.values()))
    return Dimensions(config.n_layers, config.d_model, block, rows, parameters, "weights")
