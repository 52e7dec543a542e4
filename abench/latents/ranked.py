"""The first latents of a ranking, with what helps to choose among them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import isnan
from typing import Any

import torch

from abench.latents.rankings import Ranking
from abench.latents.survey import Survey
from abench.latents.word_labels import Followed


@dataclass(frozen=True)
class RankedLatent:
    """One latent's place in a ranking. Pairs are of the positive and the negative side."""

    latent: int
    score: float
    """What it is ranked by."""
    rates: tuple[float, float]
    """Share of tokens on which it fires."""
    peaks: tuple[str | None, str | None]
    """The token with the largest code; None if the side never fires."""
    opposite: int | None
    """The latent with the most opposite decoder row, among those that fire enough; None without another."""
    opposite_cosine: float | None
    drift: float | None
    """Cosine of encoder direction and decoder row; None without a known encoder."""
    follows: tuple[Followed | None, Followed | None] | None
    """The label that each side follows best; None if the words of the text have no known labels."""

    @property
    def two_sided(self) -> float:
        """The rarer sign's share of the firings."""
        return min(self.rates) / sum(self.rates)

    def plain(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "two_sided": self.two_sided}


def first_latents(survey: Survey, ranking: Ranking, top: int) -> tuple[RankedLatent, ...]:
    """The first `top` latents of a ranking; fewer if fewer have a place in it."""
    places = list(islice(ranking.order(survey), top))
    opposites = survey.opposites_of(torch.tensor([latent for latent, _ in places], dtype=torch.int64))
    pairs = zip(*(each.tolist() for each in opposites), strict=True)
    return tuple(_latent(survey, *place, *pair) for place, pair in zip(places, pairs, strict=True))


def _latent(survey: Survey, latent: int, score: float, opposite: int, cosine: float) -> RankedLatent:
    alone = isnan(cosine)
    return RankedLatent(
        latent,
        score,
        _pair(survey.rates[:, latent].tolist()),
        _pair([side[latent] for side in survey.peaks]),
        None if alone else opposite,
        None if alone else cosine,
        None if survey.alignment is None else float(survey.alignment[latent]),
        None if survey.followed is None else _pair([side[latent] for side in survey.followed]),
    )


def _pair(sides: Sequence[Any]) -> tuple[Any, Any]:
    positive, negative = sides
    return positive, negative
