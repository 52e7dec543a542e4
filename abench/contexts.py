"""Top contexts: where in a text the two sides of a latent are strongest, with the tokens around.

The model runs once over the text, and every SAE of the group encodes what it gives. Of the latents asked for
only the running top is kept, with the values around each peak; never tokens × width beyond a block.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from abench.activations import ordinary
from abench.codes import OfEach
from abench.decoding import in_residual_units
from abench.models import LanguageModel
from abench.task import Context

_CODES_AT_ONCE = 1 << 24
"""Largest dense block of codes, tokens × latents."""


@dataclass(frozen=True)
class Excerpt:
    """Some tokens of one document around the token at which a latent is strongest."""

    tokens: tuple[str, ...]
    """Put together they are the text."""
    values: tuple[float, ...]
    """The latent's code at each token in units of the residual stream; 0 at tokens that are not encoded."""
    peak: int
    """Which of the tokens it is strongest at."""
    row: int = 0
    position: int = 0
    """Row and column of the peak among the tokens that were gone through."""

    @property
    def value(self) -> float:
        """The value at the peak."""
        return self.values[self.peak]


@dataclass(frozen=True)
class LatentContexts:
    """The strongest contexts of a latent's two sides, strongest first, at most one a row of tokens."""

    latent: int
    positive: tuple[Excerpt, ...]
    negative: tuple[Excerpt, ...]
    """Negative codes; for an SAE without any, the lowest pre-activations (in the codes' units)."""
    positive_rate: float = 0.0
    """Share of the tokens at which the latent's code is above zero."""
    negative_rate: float = 0.0


@dataclass(frozen=True)
class TopContexts:
    """Top contexts of some latents of one SAE."""

    latents: tuple[LatentContexts, ...]
    """Those that fire at all, in the order asked for."""
    alive: int
    """Latents of the whole SAE that fire."""
    alive_poles: int
    """Poles of the whole SAE that fire: a latent that fires on both sides has two."""
    width: int
    signed: bool
    """Whether any code was negative; if none was, `negative` holds the lowest pre-activations."""
    tokens: int
    """Tokens that were encoded."""

    def split(self) -> "TopContexts":
        """The same of the SAE in the split view: each pole that fires is a latent with one side."""
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
    ctx: Context,
    *,
    latents: Callable[[Any], Sequence[int]],
    most: int | None = None,
    number: int = 8,
    around: int = 12,
) -> OfEach[TopContexts]:
    """The `number` strongest contexts of both sides of some latents, for each of `ctx.saes`.

    `tokens` [rows, context] are full rows. `latents(sae)` names the latents; of those that fire the first
    `most` are given. "Strong" is by codes in units of the residual stream, which can be compared over tokens.
    An excerpt holds up to `around` tokens on each side, within the peak's document. Of
    equal values the earlier row's comes first. An SAE whose encoder fails costs only its own result.
    """
    saes = tuple(dict.fromkeys(ctx.saes))
    result: OfEach[TopContexts] = OfEach()
    searches: dict[Any, _Search] = {}
    first = 0
    for part in torch.split(tokens, ctx.evaluation.batch_size):
        mask = ordinary(part, lm).to(lm.device)
        x = lm.residual(part, ctx.site)[mask].float()

        def search(sae: Any) -> None:
            if sae not in searches:
                searches[sae] = _Search(sae, list(latents(sae)), number, around, lm.device)
            searches[sae].add(x, mask, first)  # noqa: B023

        for sae in saes:
            result.attempt(sae, search)
        first += len(part)
    texts = _Texts(lm, tokens)
    for sae in saes:
        if not result.failed(sae):
            result.keep(sae, searches[sae].found(texts, most))
    return result


def pre_activations(sae: Any, x: Tensor, latents: Sequence[int]) -> Tensor:
    """What an encoder gives before its activation function, [tokens, latents given], from x [tokens, d_in].

    In units of the residual stream, like codes. Of a gated SAE the gate's.
    """
    sae_in: Tensor = sae.process_sae_in(x.to(sae.dtype))
    bias = sae.b_enc if hasattr(sae, "b_enc") else sae.b_gate
    pre: Tensor = sae_in @ sae.W_enc[:, list(latents)] + bias[list(latents)]
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        pre = pre * sae.W_dec[list(latents)].norm(dim=-1)
    return in_residual_units(sae, x, pre, latents)


class _Search:
    """The search through one SAE's codes."""

    def __init__(self, sae: Any, latents: list[int], number: int, around: int, device: torch.device) -> None:
        self._sae, self._latents = sae, latents
        self._sides = [_Running(len(latents), number, around, device) for _ in range(2)]
        self._lowest = _Running(len(latents), number, around, device)
        self._fired = torch.zeros(2, int(sae.cfg.d_sae), dtype=torch.int64, device=device)
        self._tokens = 0
        self._signed = False

    def add(self, x: Tensor, mask: Tensor, first: int) -> None:
        """Go through activations [tokens, d_in] that stand where mask [rows, context] is True."""
        codes = torch.cat([self._codes(part) for part in torch.split(x, self._rows_at_once)])
        grid = _laid_out(codes, mask)
        self._sides[0].add(grid, mask, first)
        self._sides[1].add(-grid, mask, first)
        if not self._signed:
            # Whether the SAE has negative codes is known only once one has come.
            self._lowest.add(-_laid_out(pre_activations(self._sae, x, self._latents), mask), mask, first)
        self._tokens += len(x)

    @property
    def _rows_at_once(self) -> int:
        return max(1, _CODES_AT_ONCE // int(self._sae.cfg.d_sae))

    def _codes(self, x: Tensor) -> Tensor:
        """Codes of the latents in question; firings are counted of all."""
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
    """The strongest rows so far of each latent, and the values around their peaks."""

    def __init__(self, latents: int, number: int, around: int, device: torch.device) -> None:
        self._number = number
        self._offsets = torch.arange(-around, around + 1, device=device)
        self._strength = torch.full((number, latents), -torch.inf, device=device)
        self._place = torch.zeros(number, latents, 2, dtype=torch.int64, device=device)
        self._values = torch.zeros(number, latents, 2 * around + 1, device=device)

    def add(self, values: Tensor, mask: Tensor, first: int) -> None:
        """Rows of values [rows, context, latents], counted where mask [rows, context] is True."""
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
        """For each latent given (by place) its excerpts whose strength is above `least`."""
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
    """Rows of tokens as text."""

    def __init__(self, lm: LanguageModel, tokens: Tensor) -> None:
        self._special = lm.special_ids
        self._tokens = tokens
        self._piece = lru_cache(maxsize=None)(lambda before, token: _piece(lm.tokenizer, before, token))

    def excerpt(self, row: int, position: int, values: Sequence[float]) -> Excerpt:
        """The document's tokens around a position, with `values`, the middle one of which is the peak's."""
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
        # `+ 0.0` makes a plain zero of the negative one.
        kept = tuple(value + 0.0 for value in values[shift : shift + len(shown)])
        return Excerpt(pieces, kept, position - start, row, position)


def _piece(tokenizer: Any, before: int | None, token: int) -> str:
    """What a token adds to the text: tokenizers drop the space before a token that stands alone."""
    alone: str = tokenizer.decode([token])
    if before is None:
        return alone
    behind, both = tokenizer.decode([before]), tokenizer.decode([before, token])
    return both[len(behind) :] if both.startswith(behind) else alone


def _laid_out(values: Tensor, mask: Tensor) -> Tensor:
    """Values [tokens, n] at their places, [rows, context, n]; 0 elsewhere."""
    grid = values.new_zeros(*mask.shape, values.shape[1], dtype=torch.float32)
    grid[mask] = values.float()
    return grid


def _negated(excerpts: Sequence[Excerpt]) -> tuple[Excerpt, ...]:
    return tuple(
        Excerpt(e.tokens, tuple(0.0 - value for value in e.values), e.peak, e.row, e.position)
        for e in excerpts
    )
