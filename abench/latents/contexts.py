"""Top contexts: where in a text the two sides of a latent are strongest, with the surrounding tokens.

The model runs once over the text, and every SAE of the group encodes its activations. Only a running top of
the requested latents is stored, with the values around each peak; never tokens × width for more than a block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from abench.latents.decoding import in_residual_units
from abench.latents.of_each import OfEach
from abench.latents.parts import dense_parts
from abench.lm.models import LanguageModel
from abench.lm.tokens import ordinary
from abench.passes import unseen
from abench.sae import SAE


@dataclass(frozen=True)
class Excerpt:
    """The tokens of one document around the token on which a latent is strongest."""

    tokens: tuple[str, ...]
    """Joined, they are the text."""
    values: tuple[float, ...]
    """The latent's code on each token, in units of the residual stream; 0 on tokens that are not encoded."""
    peak: int
    """Index of the token on which the latent is strongest."""
    row: int = 0
    position: int = 0
    """Row and column of the peak in the searched tokens."""

    @property
    def value(self) -> float:
        """The value at the peak."""
        return self.values[self.peak]


@dataclass(frozen=True)
class LatentContexts:
    """The strongest contexts of a latent's two sides, strongest first, at most one per row of tokens."""

    latent: int
    positive: tuple[Excerpt, ...]
    negative: tuple[Excerpt, ...]
    """By negative codes; for an SAE without any, by the lowest pre-activations (in the same units)."""
    positive_rate: float = 0.0
    """Share of tokens on which the latent's code is positive."""
    negative_rate: float = 0.0


@dataclass(frozen=True)
class TopContexts:
    """Top contexts of the requested latents of one SAE."""

    latents: tuple[LatentContexts, ...]
    """The requested latents that fire, in the requested order."""
    alive: int
    """Number of alive latents in the whole SAE."""
    alive_poles: int
    """Number of poles in the whole SAE that fire; a latent that fires on both sides counts twice."""
    width: int
    signed: bool
    """Whether any code was negative; if none was, `negative` holds the lowest pre-activations."""
    tokens: int
    """Number of encoded tokens."""

    def split(self) -> "TopContexts":
        """The same contexts in the split view, where each pole that fires is a latent with one side."""
        poles = [
            *(LatentContexts(each.latent, each.positive, (), each.positive_rate) for each in self.latents),
            *(
                LatentContexts(each.latent + self.width, _negated(each.negative), (), each.negative_rate)
                for each in self.latents
            ),
        ]
        fire = tuple(pole for pole in poles if pole.positive_rate > 0)
        return TopContexts(fire, self.alive_poles, self.alive_poles, 2 * self.width, False, self.tokens)


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
) -> OfEach[TopContexts]:
    """The `number` strongest contexts on both sides of selected latents, for each SAE at a site.

    `tokens` [rows, context] are full rows. `latents(sae)` returns the latents to search; the result has the
    first `most` of those that fire (None: all). Strength is the code in units of the residual stream, which
    is comparable across tokens. An excerpt has up to `around` tokens on each side of the peak, within its
    document. Among equal values, the earlier row comes first. An SAE whose encoder fails loses only its own
    result. `done` receives the number of rows read so far.
    """
    saes = tuple(dict.fromkeys(saes))
    result: OfEach[TopContexts] = OfEach()
    searches: dict[Any, _Search] = {}
    first = 0
    for part in torch.split(tokens, batch_size):
        mask = ordinary(part, lm).to(lm.device)
        x = lm.residual(part, site)[mask].float()

        def search(sae: SAE) -> None:
            if sae not in searches:
                searches[sae] = _Search(sae, list(latents(sae)), number, around, lm.device)
            searches[sae].add(x, mask, first)  # noqa: B023

        for sae in saes:
            result.attempt(sae, search)
        first += len(part)
        done(first)
    texts = _Texts(lm, tokens)
    for sae in saes:
        if not result.failed(sae):
            result.keep(sae, searches[sae].found(texts, most))
    return result


def pre_activations(sae: Any, x: Tensor, latents: Sequence[int]) -> Tensor:
    """Pre-activations [tokens, latents given] of x [tokens, d_in], in units of the residual stream.

    For a gated SAE, those of the gate.
    """
    sae_in: Tensor = sae.process_sae_in(x.to(sae.dtype))
    bias = sae.b_enc if hasattr(sae, "b_enc") else sae.b_gate
    pre: Tensor = sae_in @ sae.W_enc[:, list(latents)] + bias[list(latents)]
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        pre = pre * sae.W_dec[list(latents)].norm(dim=-1)
    return in_residual_units(sae, x, pre, latents)


class _Search:
    """The search for top contexts in one SAE's codes."""

    def __init__(self, sae: SAE, latents: list[int], number: int, around: int, device: torch.device) -> None:
        self._sae, self._latents = sae, latents
        self._sides = [_Running(len(latents), number, around, device) for _ in range(2)]
        self._lowest = _Running(len(latents), number, around, device)
        self._fired = torch.zeros(2, int(sae.cfg.d_sae), dtype=torch.int64, device=device)
        self._tokens = 0
        self._signed = False

    def add(self, x: Tensor, mask: Tensor, first: int) -> None:
        """Search activations x [tokens, d_in] at the positions where mask [rows, context] is True."""
        codes = torch.cat([self._codes(part) for part in dense_parts(self._sae, x)])
        grid = _laid_out(codes, mask)
        self._sides[0].add(grid, mask, first)
        self._sides[1].add(-grid, mask, first)
        if not self._signed:
            # An SAE is known to be signed only once a negative code has occurred.
            self._lowest.add(-_laid_out(pre_activations(self._sae, x, self._latents), mask), mask, first)
        self._tokens += len(x)

    def _codes(self, x: Tensor) -> Tensor:
        """Codes of the searched latents, [tokens, n]; counts the firings of all latents on the way."""
        z = self._sae.encode(x.to(self._sae.dtype))
        fired = torch.stack([(z > 0).sum(0), (z < 0).sum(0)])
        self._fired += fired
        self._signed = self._signed or bool(fired[1].any())
        return in_residual_units(self._sae, x, z[:, self._latents], self._latents).float()

    def found(self, texts: "_Texts", most: int | None) -> TopContexts:
        fired = self._fired.cpu()
        alive = fired.sum(0) > 0
        places = [place for place, latent in enumerate(self._latents) if alive[latent]][:most]
        positive = self._sides[0].excerpts(places, texts, sign=1, least=0.0)
        negative = (
            self._sides[1].excerpts(places, texts, sign=-1, least=0.0)
            if self._signed
            else self._lowest.excerpts(places, texts, sign=-1, least=-torch.inf)
        )
        rates = (fired / max(1, self._tokens)).tolist()
        latents = tuple(
            LatentContexts(self._latents[place], up, down, *(rate[self._latents[place]] for rate in rates))
            for place, up, down in zip(places, positive, negative, strict=True)
        )
        return TopContexts(
            latents, int(alive.sum()), int((fired > 0).sum()), len(alive), self._signed, self._tokens
        )


class _Running:
    """The strongest rows so far of each latent, and the values around their peaks.

    A row of tokens counts once, by its strongest token. Every batch of rows is merged into the best so far:
    their strengths are concatenated and sorted, and the first `number` stay. Example with one latent,
    `number` = 2 and `around` = 1:

        rows 0 and 1: values [0, 3, 1, 0] and [2, 0, 0, 0]   peaks 3 (row 0, column 1), 2 (row 1, column 0)
            -> strength [3, 2], place [(0, 1), (1, 0)], values around [0, 3, 1] and [2, 2, 0]
        row 2: values [0, 0, 0, 2.5]                         peak 2.5 (row 2, column 3)
            -> sorting [3, 2 | 2.5] gives the order [0, 2]: the first of the old ones, then the new one
            -> strength [3, 2.5], place [(0, 1), (2, 3)], values around [0, 3, 1] and [0, 2.5, 2.5]

    In the order, numbers below `number` refer to the old best and the others to the batch. The sort is
    stable, so the earlier row wins a tie. Values beyond the ends of a row repeat its outermost value (2 and
    2.5 above); excerpts omit them.
    """

    def __init__(self, latents: int, number: int, around: int, device: torch.device) -> None:
        self._number = number
        self._offsets = torch.arange(-around, around + 1, device=device)
        self._strength = torch.full((number, latents), -torch.inf, device=device)
        self._place = torch.zeros(number, latents, 2, dtype=torch.int64, device=device)
        self._values = torch.zeros(number, latents, 2 * around + 1, device=device)

    def add(self, values: Tensor, mask: Tensor, first: int) -> None:
        """Merge a batch of values [rows, context, latents], of which only those where `mask` is True count.

        `mask` is [rows, context]; `first` is the number of the batch's first row.
        """
        peak, column = values.masked_fill(~mask[..., None], -torch.inf).max(1)
        rows = torch.arange(len(values), device=values.device)[:, None].expand_as(column)
        strength = torch.cat([self._strength, peak])
        order = strength.sort(dim=0, descending=True, stable=True).indices[: self._number]
        place = torch.cat([self._place, torch.stack([rows + first, column], -1)])
        latents = torch.arange(values.shape[2], device=values.device)[None]
        kept = order < self._number
        row = (order - self._number).clamp_min(0)
        columns = (column[row, latents][..., None] + self._offsets).clamp(0, values.shape[1] - 1)
        fresh = values[row[..., None], columns, latents[..., None]]
        old = self._values[order.clamp_max(self._number - 1), latents]
        self._values = torch.where(kept[..., None], old, fresh)
        self._strength = strength.gather(0, order)
        self._place = place[order, latents]

    def excerpts(
        self, latents: Sequence[int], texts: "_Texts", *, sign: int, least: float
    ) -> Iterator[tuple[Excerpt, ...]]:
        """For each given latent (by index) its excerpts of a strength above `least`, strongest first."""
        strength, place, values = self._strength.cpu(), self._place.cpu(), (sign * self._values).cpu()
        for latent in latents:
            yield tuple(
                texts.excerpt(
                    int(place[rank, latent, 0]), int(place[rank, latent, 1]), values[rank, latent].tolist()
                )
                for rank in range(self._number)
                if strength[rank, latent] > least
            )


class _Texts:
    """Converts rows of tokens to text."""

    def __init__(self, lm: LanguageModel, tokens: Tensor) -> None:
        self._special = lm.special_ids
        self._tokens = tokens
        self._piece = lru_cache(maxsize=None)(lambda before, token: _piece(lm.tokenizer, before, token))

    def excerpt(self, row: int, position: int, values: Sequence[float]) -> Excerpt:
        """The document's tokens around a position, with `values`, whose middle entry is the peak's."""
        ids: list[int] = self._tokens[row].tolist()
        reach = len(values) // 2
        start = end = position
        while start > max(0, position - reach) and ids[start - 1] not in self._special:
            start -= 1
        while end + 1 < min(len(ids), position + reach + 1) and ids[end + 1] not in self._special:
            end += 1
        shown = ids[start : end + 1]
        pieces = tuple(self._piece(*pair) for pair in zip([None, *shown[:-1]], shown, strict=True))
        shift = start - position + reach
        # `+ 0.0` turns −0.0 into 0.0.
        kept = tuple(value + 0.0 for value in values[shift : shift + len(shown)])
        return Excerpt(pieces, kept, position - start, row, position)


def _piece(tokenizer: Any, before: int | None, token: int) -> str:
    """The text that a token adds after the one before it; alone, tokenizers would drop its leading space."""
    alone: str = tokenizer.decode([token])
    if before is None:
        return alone
    behind, both = tokenizer.decode([before]), tokenizer.decode([before, token])
    return both[len(behind) :] if both.startswith(behind) else alone


def _laid_out(values: Tensor, mask: Tensor) -> Tensor:
    """Values [tokens, n] placed where mask [rows, context] is True: [rows, context, n], 0 elsewhere."""
    grid = values.new_zeros(*mask.shape, values.shape[1], dtype=torch.float32)
    grid[mask] = values.float()
    return grid


def _negated(excerpts: Sequence[Excerpt]) -> tuple[Excerpt, ...]:
    return tuple(
        Excerpt(e.tokens, tuple(0.0 - value for value in e.values), e.peak, e.row, e.position)
        for e in excerpts
    )
