"""Everything about one latent of a trained SAE: contexts, firing rates, neighbours, promoted tokens."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from abench.config import DataSpec
from abench.data.token_rows import TokenRows
from abench.errors import UserError
from abench.latents.anyones import usable
from abench.latents.contexts import top_contexts
from abench.latents.decoding import latent_directions
from abench.latents.excerpts import LatentContexts, TopContexts
from abench.latents.few_latents import check_latents
from abench.lm.models import LanguageModel
from abench.passes import unseen
from abench.sae import SAE
from abench.sites import site_name

Ranked = tuple[tuple[Any, float], ...]
"""(item, score) pairs, the most extreme first."""


@dataclass(frozen=True)
class LatentCard:
    """The facts about one latent, ready to print."""

    contexts: LatentContexts | None
    """None if the latent never fires."""
    signed: bool
    """Whether the SAE has negative codes; if not, negative contexts are those of lowest pre-activation."""
    tokens: int
    """Number of held-out tokens searched."""
    nearest: Ranked
    """(latent, cosine similarity of decoder rows) pairs, highest first."""
    opposite: Ranked
    """The same pairs, lowest first."""
    promoted: Ranked
    """(token, logit change relative to the mean token) pairs of the tokens a positive code raises most."""
    suppressed: Ranked
    """The same pairs of the tokens a positive code lowers most."""

    def plain(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def latent_card(
    lm: LanguageModel,
    sae: SAE,
    latent: int,
    *,
    site: str,
    data: DataSpec,
    context_size: int,
    tokens: int,
    number: int = 8,
) -> LatentCard:
    """The card of one latent, from `tokens` held-out tokens.

    Raises UserError if the SAE has no such latent, or if the held-out text is too short for one context.
    """
    sae = usable(sae)
    check_latents(sae, [latent])
    rows = held_out_rows(lm, data, context_size, tokens)
    (card,) = latent_cards(lm, sae, [latent], site=site, rows=rows, number=number)
    return card


def held_out_rows(lm: LanguageModel, data: DataSpec, context_size: int, tokens: int) -> Tensor:
    """About `tokens` tokens of held-out text, at least one row: [rows, context_size].

    Raises UserError if the text is too short for one context.
    """
    rows = TokenRows(lm, data, "held_out", context_size).batch(max(1, tokens // context_size))
    if len(rows) == 0:
        raise UserError("the held-out text does not fill one context")
    return rows


@torch.no_grad()
def latent_cards(
    lm: LanguageModel,
    sae: SAE,
    latents: Sequence[int],
    *,
    site: str,
    rows: Tensor,
    number: int = 8,
    done: Callable[[int], None] = unseen,
) -> tuple[LatentCard, ...]:
    """The cards of several latents, from rows of tokens [rows, context] that the model reads once.

    `done` receives the number of rows read so far. Raises UserError if the SAE has no such latent.
    """
    sae = usable(sae)
    check_latents(sae, latents)
    top: TopContexts = top_contexts(
        lm, rows, site=site, saes=[sae], latents=lambda _: list(latents), number=number, done=done
    )(sae)
    contexts = {each.latent: each for each in top.latents}
    decoder = sae.W_dec.detach().float()
    return tuple(
        LatentCard(
            contexts.get(latent),
            top.signed,
            top.tokens,
            *neighbours(decoder, latent, number),
            *said(lm, latent_directions(sae, [latent])[0].detach(), number),
        )
        for latent in latents
    )


def neighbours(decoder: Tensor, latent: int, number: int) -> tuple[Ranked, Ranked]:
    """The latents with the highest and the lowest cosine similarity to one latent's row of `decoder`.

    `decoder` is [latents, d]; `number` latents each, most extreme first.
    """
    rows = torch.nn.functional.normalize(decoder, dim=-1)
    cosines = rows @ rows[latent]
    others = torch.arange(len(rows), device=rows.device) != latent
    order = cosines[others].argsort(descending=True)
    places = others.nonzero().flatten()[order].tolist()
    ranked = [(place, float(cosines[place])) for place in places]
    return tuple(ranked[:number]), tuple(reversed(ranked[-number:]))


def said(lm: LanguageModel, direction: Tensor, number: int) -> tuple[Ranked, Ranked]:
    """The tokens whose logits a direction [d_model] raises and lowers most by its direct effect, with scores.

    The direction passes through the final norm and the unembedding only; its effect on blocks in between is
    ignored. Scores are logit changes relative to the mean over all tokens, up to the scale set by the norm.
    """
    nothing = torch.zeros_like(direction)
    residual = torch.stack([direction, nothing])[:, None].to(lm.device)
    tokens = torch.zeros(2, 1, dtype=torch.int64)
    moved, unmoved = lm.logits_from(residual, tokens, site_name(lm.n_layers - 1))[:, 0].float()
    # A zero input gives the biases of norm and unembedding, which are not an effect of the direction.
    logits = moved - unmoved
    logits = logits - logits.mean()
    order = logits.argsort(descending=True).tolist()
    ranked = [(lm.tokenizer.decode([token]), float(logits[token])) for token in order[:number]]
    lowest = [(lm.tokenizer.decode([token]), float(logits[token])) for token in reversed(order[-number:])]
    return tuple(ranked), tuple(lowest)
