"""Opening the model that keys or a record name: it is the one they stand for, or a sentence says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from abench.catalogue import commit_of, weights_folder
from abench.errors import UserError

if TYPE_CHECKING:
    from abench.activations import ActivationSource
    from abench.config import ModelConfig
    from abench.models import LanguageModel


def open_model(
    config: ModelConfig,
    *,
    name: str,
    commit: str | None,
    dtype: str,
    eos_after_documents: bool,
    device: str,
    otherwise: Callable[[Path, str], str],
) -> LanguageModel | ActivationSource:
    """The model, under a name of its own, on a device.

    Raises UserError for whatever is wrong with it, and if its folder, once it has been opened, is not the one
    that `commit` identifies: `otherwise` makes the sentence of the folder and of the commit that it is at.
    """
    if config.synthetic is not None:
        from abench.synthetic import SyntheticModel

        return SyntheticModel(config.synthetic, config.d_model, name=name, device=device)
    from abench.models import LanguageModel

    folder = weights_folder(config)
    lm = LanguageModel.load(
        folder, name=name, dtype=dtype, device=device, eos_after_documents=eos_after_documents
    )
    # Looked at last, so that a folder that changes while it is read is noticed as well.
    found = commit_of(config, folder)
    if found != commit:
        raise UserError(otherwise(folder, found))
    return lm
