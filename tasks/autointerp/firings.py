"""Where the drawn latents of each SAE fire in the held-out text, from two passes that all SAEs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abench import Context

from .._shared.drawn import in_order, projections

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, LanguageModel, OfEach, PoleRates

Places = Any
"""Positions in the flattened rows of tokens, ascending: an int64 array."""
Values = Any
"""The codes there, in units of the residual stream: a float32 array."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A drawn latent with all its firings; `mark` recognises its direction, and −mark the opposite one."""

    latent: int
    mark: float
    places: Places
    values: Values


@dataclass(frozen=True, eq=False)
class Firings:
    """The drawn latents of an SAE."""

    drawn: tuple[Drawn, ...]
    eligible: int
    """Number of latents that fire often enough to be drawn."""
    signed: bool
    of_poles: Firings | None
    """The drawn poles, for the split view; None if no code was negative."""

    def split(self) -> Firings:
        """The same for the SAE in the split view, where poles are drawn instead of latents."""
        return self if self.of_poles is None else self.of_poles


def firings_of(
    lm: LanguageModel, rows: Tensor, ctx: Context, *, latents: int, more_than: int
) -> OfEach[Firings]:
    """Up to `latents` latents of each SAE that fire on more than `more_than` tokens, with their firings.

    They are drawn by the evaluation's seed and their decoder directions, so neither the order nor the signs
    of latents nor the units of codes matter. `rows` is [rows, context].
    """
    from abench import OfEach, firing_rates, ordinary

    with ctx.steps("autointerp: how often latents fire", len(rows), "rows") as steps:
        rates = firing_rates(lm, rows, site=ctx.site, saes=ctx.saes, done=steps.advance_to)
    tokens = int(ordinary(rows, lm).sum())
    found: OfEach[Firings] = OfEach()
    saes = found.taken(ctx.saes)
    choices: dict[Any, _Choice] = {}

    def choose(sae: SAE) -> None:
        choices[sae] = _Choice.of(
            sae, rates(sae), tokens, latents=latents, more_than=more_than, seed=ctx.evaluation.seed
        )

    for sae in saes:
        found.attempt(sae, choose)
    _collect(lm, rows, ctx, found, saes, choices)
    for sae in saes:
        if not found.failed(sae):
            found.keep(sae, choices[sae].firings())
    return found


def _collect(
    lm: LanguageModel,
    rows: Tensor,
    ctx: Context,
    found: OfEach[Firings],
    saes: Sequence[SAE],
    choices: dict[Any, _Choice],
) -> None:
    import torch

    from abench import ordinary, sparse_codes

    first = 0
    with ctx.steps("autointerp: firings of drawn latents", len(rows), "rows") as steps:
        for part in torch.split(rows, ctx.evaluation.batch_size):
            mask = ordinary(part, lm)
            x = lm.residual(part, ctx.site)[mask.to(lm.device)].float()
            where = mask.flatten().nonzero()[:, 0].numpy() + first * rows.shape[1]

            def add(sae: SAE) -> None:
                choices[sae].add(sparse_codes(sae, x), where)  # noqa: B023

            for sae in saes:
                found.attempt(sae, add)
            first += len(part)
            steps.advance_to(first)


class _Choice:
    """The drawn latents and poles of one SAE, with the firings found so far."""

    def __init__(
        self,
        marks: Any,
        width: int,
        latents: Sequence[int],
        poles: Sequence[int],
        eligible: tuple[int, int],
        *,
        signed: bool,
    ) -> None:
        self._marks, self._width = marks, width
        self._latents, self._poles, self._eligible, self._signed = latents, poles, eligible, signed
        self._read = sorted({*latents, *(pole % width for pole in poles)})
        self._found: list[tuple[Any, Any, Any]] = []

    @classmethod
    def of(
        cls, sae: SAE, rates: PoleRates, tokens: int, *, latents: int, more_than: int, seed: int
    ) -> _Choice:
        import numpy as np

        counts = np.rint(np.stack([rates.positive.numpy(), rates.negative.numpy()]) * tokens).astype(np.int64)
        signed = bool(counts[1].any())
        marks = projections(sae.W_dec, seed)
        # A latent of a signed SAE and its mirror image are the same latent; two opposite latents are not.
        often = counts.sum(0) > more_than
        chosen = _first(in_order(abs(marks) if signed else marks), often, latents)
        if not signed:
            return cls(marks, len(marks), chosen, (), (int(often.sum()), 0), signed=False)
        poles_often = counts.ravel() > more_than
        poles = _first(in_order(np.concatenate([marks, 0.0 - marks])), poles_often, latents)
        eligible = (int(often.sum()), int(poles_often.sum()))
        return cls(marks, len(marks), chosen, poles, eligible, signed=True)

    def add(self, codes: Any, where: Any) -> None:
        """Add codes [tokens, latents], sparse, of the tokens at the positions `where`."""
        if not self._read:
            return
        mine = codes.tocsc()[:, self._read].tocoo()
        fires = mine.data != 0
        self._found.append((mine.col[fires], where[mine.row[fires]], mine.data[fires]))

    def firings(self) -> Firings:
        if not self._read:
            return Firings((), self._eligible[0], self._signed, self._no_poles())
        by_latent = self._by_latent()
        drawn = tuple(Drawn(one, float(self._marks[one]), *by_latent[one]) for one in self._latents)
        poles = tuple(self._pole(pole, *by_latent[pole % self._width]) for pole in self._poles)
        of_poles = Firings(poles, self._eligible[1], False, None) if self._signed else None
        return Firings(drawn, self._eligible[0], self._signed, of_poles)

    def _no_poles(self) -> Firings | None:
        return Firings((), self._eligible[1], False, None) if self._signed else None

    def _by_latent(self) -> dict[int, tuple[Places, Values]]:
        import numpy as np

        which, places, values = (np.concatenate(each) for each in zip(*self._found, strict=True))
        order = np.lexsort((places, which))
        which, places, values = which[order], places[order].astype(np.int64), values[order]
        bounds = np.searchsorted(which, np.arange(len(self._read) + 1))
        return {
            latent: (places[start:end], values[start:end])
            for latent, start, end in zip(self._read, bounds[:-1], bounds[1:], strict=True)
        }

    def _pole(self, pole: int, places: Places, values: Values) -> Drawn:
        sign = 1.0 if pole < self._width else -1.0
        mine = sign * values > 0
        mark = sign * float(self._marks[pole % self._width]) + 0.0
        return Drawn(pole, mark, places[mine], sign * values[mine])


def _first(order: Sequence[int], often: Any, number: int) -> list[int]:
    return [latent for latent in order if often[latent]][:number]
