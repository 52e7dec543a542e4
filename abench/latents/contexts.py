"""Top contexts: where in a text the two sides of a latent are strongest, with the surrounding tokens.

The model runs once over the text, and every SAE of the group encodes its activations.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from abench.errors import UserError
from abench.latents.context_search import Search, Texts
from abench.latents.excerpts import TopContexts
from abench.latents.few_latents import check_latents
from abench.latents.of_each import OfEach
from abench.latents.reading import Reading
from abench.lm.models import LanguageModel
from abench.lm.tokens import ordinary
from abench.passes import unseen
from abench.sae import SAE

_VALUES_AT_ONCE = 1 << 24
"""Largest block of searched values, tokens × latents: 64 MiB in float32."""


@overload
def top_contexts(
    lm: LanguageModel | str | Path,
    sae: Any,
    /,
    texts: Sequence[str],
    *,
    latents: Sequence[int] | None = None,
    site: str | None = None,
    context: int | None = None,
    most: int | None = None,
    number: int = 8,
    around: int = 12,
    batch_size: int = 32,
    done: Callable[[int], None] = unseen,
) -> TopContexts: ...


@overload
def top_contexts(
    lm: LanguageModel,
    tokens: Tensor,
    *,
    site: str,
    saes: Sequence[SAE],
    latents: Callable[[SAE], Sequence[int]],
    most: int | None = None,
    number: int = 8,
    around: int = 12,
    batch_size: int = 32,
    done: Callable[[int], None] = unseen,
) -> OfEach[TopContexts]: ...


def top_contexts(
    lm: Any,
    tokens: Any,
    texts: Sequence[str] | None = None,
    *,
    site: str | None = None,
    saes: Sequence[SAE] = (),
    latents: Any = None,
    context: int | None = None,
    batch_size: int = 32,
    **options: Any,
) -> TopContexts | OfEach[TopContexts]:
    """The strongest contexts on both sides of latents: in texts for one SAE, or in rows for several.

    `top_contexts(lm, sae, texts)` reads the texts as in training: packed into rows of `context` tokens (by
    default those of the SAE's training, or 128), at the site that the SAE's configuration states or `site`.
    `latents` are the latents to search (None: all). `lm` may also be what `LanguageModel.load` accepts. It
    returns the SAE's `TopContexts`.

    `top_contexts(lm, tokens, site=..., saes=..., latents=...)` searches full rows `tokens` [rows, context]
    for several SAEs at a site, in one pass of the model, and returns an `OfEach`. `latents(sae)` returns the
    latents to search. An SAE whose encoder fails loses only its own result.

    A result has the `number` (8) strongest contexts of the first `most` latents that fire (None: all).
    Strength is the code in units of the residual stream, which is comparable across tokens. An excerpt has up
    to `around` (12) tokens on each side of the peak, within its document. Among equal values, the earlier row
    comes first. `done` receives the number of rows read so far. Raises UserError for a latent that the SAE
    does not have, for texts without tokens, and for a site that the model lacks or the SAE does not state.
    """
    if texts is None:
        return _in_rows(lm, tokens, site, saes, latents, batch_size=batch_size, **options)
    read = Reading.of(lm, tokens, texts, site=site, context=context)
    searched = range(read.sae.cfg.d_sae) if latents is None else list(latents)
    check_latents(read.sae, searched)
    # All latents of a wide SAE at once need few rows at a time.
    size = max(1, min(batch_size, _VALUES_AT_ONCE // (read.rows.shape[1] * max(1, len(searched)))))
    of_each = _in_rows(
        read.lm, read.rows, read.site, [read.sae], lambda _: searched, batch_size=size, **options
    )
    return of_each(read.sae)


@torch.no_grad()
def _in_rows(
    lm: LanguageModel,
    tokens: Tensor,
    site: str | None,
    saes: Sequence[SAE],
    latents: Callable[[SAE], Sequence[int]],
    *,
    most: int | None = None,
    number: int = 8,
    around: int = 12,
    batch_size: int = 32,
    done: Callable[[int], None] = unseen,
) -> OfEach[TopContexts]:
    if site is None:
        raise UserError(
            "top_contexts() of rows of tokens needs the site: give site='blocks.L.hook_resid_post'"
        )
    result: OfEach[TopContexts] = OfEach()
    saes = result.taken(saes)
    searches: dict[Any, Search] = {}
    first = 0
    for part in torch.split(tokens, batch_size):
        mask = ordinary(part, lm).to(lm.device)
        x = lm.residual(part, site)[mask].float()

        def search(sae: SAE) -> None:
            if sae not in searches:
                searches[sae] = Search(sae, list(latents(sae)), number, around, lm.device)
            searches[sae].add(x, mask, first)  # noqa: B023

        for sae in saes:
            result.attempt(sae, search)
        first += len(part)
        done(first)
    texts = Texts(lm, tokens)
    for sae in saes:
        if not result.failed(sae):
            result.keep(sae, searches[sae].found(texts, most))
    return result
