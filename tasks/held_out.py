"""Held-out text as rows of tokens, for tasks that go through all of it."""

from torch import Tensor

from abench import Context, LanguageModel, TokenRows


def held_out_rows(lm: LanguageModel, ctx: Context) -> Tensor:
    """Token rows [rows, context] of held-out text; fewer than asked for only where the text ends.

    Raises ValueError if there is not a single one.
    """
    wanted = -(-ctx.evaluation.tokens // ctx.context_size)
    if ctx.evaluation.limit is not None:
        wanted = min(wanted, ctx.evaluation.limit)
    rows = TokenRows(lm, ctx.data, "held_out", ctx.context_size, seed=ctx.evaluation.seed).batch(wanted)
    if len(rows) == 0:
        raise ValueError("the held-out text does not fill one context")
    return rows
