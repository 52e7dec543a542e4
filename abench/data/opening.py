"""Opening the model that a plan or a record names, with a check that its weights are the recorded ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from abench.errors import UserError
from abench.lm.catalogue import commit_of, weights_folder
from abench.lm.devices import computing_device

if TYPE_CHECKING:
    from abench.config import ModelConfig
    from abench.data.activations import ActivationSource
    from abench.lm.models import LanguageModel


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
    """The model on a device, under the given name.

    Raises UserError if it cannot be opened, and if its weights are not those that `commit` identifies;
    `otherwise(folder, found_commit)` returns the message for the latter.
    """
    if config.synthetic is not None:
        from abench.data.synthetic import SyntheticModel

        where = computing_device(device)
        return SyntheticModel(config.synthetic, config.d_model, name=name, device=where)
    from abench.lm.models import LanguageModel

    folder = weights_folder(config)
    lm = LanguageModel.load(
        folder, name=name, dtype=dtype, device=device, eos_after_documents=eos_after_documents
    )
    # Checked last, so that a folder that changes while it is read is noticed as well.
    found = commit_of(config, folder)
    if found != commit:
        raise UserError(otherwise(folder, found))
    return lm
