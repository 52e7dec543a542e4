"""The search for top contexts, block by block: a running top of the requested latents of one SAE.

Only the values around each peak are stored; never tokens × width for more than a block.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from abench.latents.decoding import in_residual_units
from abench.latents.excerpts import Excerpt, LatentContexts, TopContexts
from abench.latents.parts import dense_parts
from abench.lm.models import LanguageModel
from abench.sae import SAE


def has_pre_activations(sae: Any) -> bool:
    """Whether pre-activations can be computed: those of an SAE of an unknown class cannot be seen."""
    return hasattr(sae, "process_sae_in") and hasattr(sae, "W_enc")


def pre_activations(sae: Any, x: Tensor, latents: Sequence[int]) -> Tensor:
    """Pre-activations [tokens, latents given] of x [tokens, d_in], in units of the residual stream.

    For a gated SAE, those of the gate.
    """
    sae_in: Tensor = sae.process_sae_in(x.to(sae.dtype))
    bias = sae.b_gate if getattr(sae, "b_enc", None) is None else sae.b_enc
    pre: Tensor = sae_in @ sae.W_enc[:, list(latents)] + bias[list(latents)]
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        pre = pre * sae.W_dec[list(latents)].norm(dim=-1)
    return in_residual_units(sae, x, pre, latents)


class Search:
    """The search for top contexts in one SAE's codes."""

    def __init__(self, sae: SAE, latents: list[int], number: int, around: int, device: torch.device) -> None:
        self._sae, self._latents = sae, latents
        self._sides = [_Running(len(latents), number, around, device) for _ in range(2)]
        self._lowest = _Running(len(latents), number, around, device) if has_pre_activations(sae) else None
        self._fired = torch.zeros(2, int(sae.cfg.d_sae), dtype=torch.int64, device=device)
        self._tokens = 0
        self._signed = False

    def add(self, x: Tensor, mask: Tensor, first: int) -> None:
        """Search activations x [tokens, d_in] at the positions where mask [rows, context] is True."""
        codes = torch.cat([self._codes(part) for part in dense_parts(self._sae, x)])
        grid = _laid_out(codes, mask)
        self._sides[0].add(grid, mask, first)
        self._sides[1].add(-grid, mask, first)
        if self._lowest is not None and not self._signed:
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

    def found(self, texts: "Texts", most: int | None) -> TopContexts:
        fired = self._fired.cpu()
        alive = fired.sum(0) > 0
        places = [place for place, latent in enumerate(self._latents) if alive[latent]][:most]
        positive = self._sides[0].excerpts(places, texts, sign=1, least=0.0)
        lowest = None if self._signed else self._lowest
        negative = (
            self._sides[1].excerpts(places, texts, sign=-1, least=0.0)
            if lowest is None
            else lowest.excerpts(places, texts, sign=-1, least=-torch.inf)
        )
        rates = (fired / max(1, self._tokens)).tolist()
        latents = tuple(
            LatentContexts(self._latents[place], up, down, *(rate[self._latents[place]] for rate in rates))
            for place, up, down in zip(places, positive, negative, strict=True)
        )
        return TopContexts(
            latents,
            int(alive.sum()),
            int((fired > 0).sum()),
            len(alive),
            self._signed,
            self._tokens,
            negative_known=self._signed or self._lowest is not None,
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
        self, latents: Sequence[int], texts: "Texts", *, sign: int, least: float
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


class Texts:
    """Excerpts of rows of tokens [rows, context] as text: `Texts(lm, tokens)`, then `excerpt`."""

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
