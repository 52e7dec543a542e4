"""A control without any SAE: whether the model still reads its knowledge from the questions at the site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._shared.choices import answers_from
from .clamp import KnownBatch

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel


def lost_without_tokens(
    lm: LanguageModel, site: str, batches: Sequence[KnownBatch], letters: Tensor
) -> float:
    """The share of known questions on the subject to forget that fail when their tokens are made alike.

    At all tokens but the first and the last, the residual stream at the site is replaced by its mean over
    the tokens of all these questions. The last token, at which the answer is read, stays: what has reached it
    before the site is not read from the question any more.
    """
    import torch

    parts = [(batch, torch.nonzero(batch.forget).flatten()) for batch in batches]
    residuals = [batch.residual[rows][_inner(batch)[rows]].float() for batch, rows in parts]
    mean = torch.cat(residuals).mean(0)
    lost = asked = 0
    for batch, rows in parts:
        if len(rows):
            inner = _inner(batch)[rows][..., None]
            x = torch.where(inner, mean, batch.residual[rows].float()).to(lm.device)
            found = answers_from(lm, x, batch.tokens[rows], batch.last[rows], letters, site)
            lost += int((found != batch.answers[rows]).sum())
            asked += len(rows)
    return lost / asked


def _inner(batch: KnownBatch) -> Tensor:
    """Mask of the clamped positions without the last one of each prompt, [batch, longest] (bool)."""
    import torch

    inner = batch.clampable()
    inner[torch.arange(len(inner)), batch.last] = False
    return inner
