"""Held-out text as rows of tokens, for tasks that process all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abench import Amount, Context, Skip

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

_TOO_LITTLE = "the held-out text does not fill one context of {} tokens"


def too_little_text(lm: LanguageModel, ctx: Context) -> str | None:
    """The reason for `Task.skip` if there is too little held-out text for any score; None otherwise."""
    return None if len(_rows(lm, ctx, 1)) else _TOO_LITTLE.format(ctx.context_size)


def held_out_rows(lm: LanguageModel, ctx: Context, most_tokens: int | None = None) -> Tensor:
    """Token rows [rows, context] of held-out text; fewer than requested only if the text ends.

    Requested are the evaluation's tokens, but at most `most_tokens`. Raises Skip if there is no full row.
    """
    tokens = min(ctx.evaluation.tokens, most_tokens or ctx.evaluation.tokens)
    wanted = -(-tokens // ctx.context_size)
    if ctx.evaluation.limit is not None:
        wanted = min(wanted, ctx.evaluation.limit)
        tokens = min(tokens, wanted * ctx.context_size)
    rows = _rows(lm, ctx, wanted)
    if len(rows) == 0:
        raise Skip(_TOO_LITTLE.format(ctx.context_size))
    # The last row may hold more tokens than remain of the request.
    ctx.used(Amount("held-out tokens", min(tokens, rows.numel()), tokens))
    return rows


def usual_positions(
    rows: Sequence[Tensor], residuals: Sequence[Tensor], lm: LanguageModel, outlier_norm: float | None
) -> list[Tensor]:
    """Masks [rows, context] of the ordinary positions, per batch of rows and residuals [rows, context, d].

    Without those whose norm is above `outlier_norm` times the median, unless it is None.
    """
    import torch

    from abench import ordinary

    masks = [ordinary(batch, lm).to(lm.device) for batch in rows]
    if outlier_norm is None:
        return masks
    norms = [residual.float().norm(dim=-1) for residual in residuals]
    median = torch.cat([n[m] for n, m in zip(norms, masks, strict=True)]).median()
    return [m & (n <= outlier_norm * median) for n, m in zip(norms, masks, strict=True)]


def _rows(lm: LanguageModel, ctx: Context, number: int) -> Tensor:
    from abench import TokenRows

    return TokenRows(lm, ctx.data, "held_out", ctx.context_size, seed=ctx.evaluation.seed).batch(number)
