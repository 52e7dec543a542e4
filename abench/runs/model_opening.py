"""Opening the models of plans."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from abench.data.opening import open_model
from abench.progress import Progress, duration
from abench.results.jobs import ModelRef

if TYPE_CHECKING:
    from abench.data.activations import ActivationSource
    from abench.lm.models import LanguageModel

Opener = Callable[[ModelRef, str], "LanguageModel | ActivationSource"]
"""Returns a plan's model on a device; raises UserError if it cannot be opened."""


class Models:
    """Opens models; the one that was opened last stays open."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: tuple[ModelRef, str, LanguageModel | ActivationSource] | None = None

    def __call__(self, ref: ModelRef, device: str) -> LanguageModel | ActivationSource:
        """The model on a device. Raises UserError if it cannot be opened."""
        if self._open is None or self._open[:2] != (ref, device):
            self._open = None  # two models may be more than the memory holds
            started = time.monotonic()
            self._open = (ref, device, open_planned(ref, device))
            self._progress.say(f"opened {ref.config.title} in {duration(time.monotonic() - started)}")
        return self._open[2]


def always(lm: LanguageModel) -> Opener:
    """An opener that returns this model."""
    return lambda _ref, _device: lm


def open_planned(ref: ModelRef, device: str) -> LanguageModel | ActivationSource:
    """The model of a plan on a device. Raises UserError if it cannot be opened or has changed."""
    return open_model(
        ref.config,
        name=ref.name,
        commit=ref.commit,
        dtype=ref.dtype,
        eos_after_documents=ref.config.eos_after_documents,
        device=device,
        otherwise=lambda folder, _: (
            f"{folder} has changed since this run was planned: run the same command again"
        ),
    )
