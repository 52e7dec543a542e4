"""The orders in which latents are worth a look. Importing this is cheap, so that help texts can name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from abench.latents.survey import Survey


NO_WORDS = (
    "--by concept needs text whose words have known concepts, which only the tiny world has, and this SAE "
    "reads other text: choose another ranking"
)


@dataclass(frozen=True)
class Ranking:
    """One order of latents."""

    definition: str
    """What is ranked, and which end comes first."""
    scores: Callable[[Survey], Tensor]
    """[latents] in float64; NaN for a latent that has no place in this order. Raises UserError if the survey
    lacks what the order needs."""
    highest_first: bool = True
    pairs: bool = False
    """Whether latents are listed with their opposites, each pair once."""

    of_words: bool = False
    """Whether the text's words must have known labels."""

    def order(self, survey: Survey) -> Iterator[tuple[int, float]]:
        """(Latent, score) pairs of the latents that have a place, the first one first; ties by number."""
        scores = self.scores(survey)
        scores = scores.masked_fill(~survey.counted, float("nan"))
        places = (~scores.isnan()).nonzero().flatten()
        order = scores[places].argsort(descending=self.highest_first, stable=True)
        seen: set[tuple[int, ...]] = set()
        for latent in places[order].tolist():
            if self.pairs:
                pair = tuple(sorted((latent, int(survey.opposites[0][latent]))))
                if pair in seen:
                    continue
                seen.add(pair)
            yield latent, float(scores[latent])


def _two_sided(survey: Survey) -> Tensor:
    firings = survey.firings.double()
    shares = firings.amin(0) / firings.sum(0)
    return shares.masked_fill(shares == 0, float("nan"))


def _rate(survey: Survey) -> Tensor:
    return survey.rates.sum(0)


def _concept(survey: Survey) -> Tensor:
    import torch

    if survey.followed is None:
        raise UserError(NO_WORDS)
    best = [
        max((side.f1 for side in sides if side is not None), default=float("nan"))
        for sides in zip(*survey.followed, strict=True)
    ]
    return torch.tensor(best, dtype=torch.float64)


def _opposites(survey: Survey) -> Tensor:
    return survey.opposites[1]


def _drift(survey: Survey) -> Tensor:
    if survey.alignment is None:
        raise UserError(
            "--by drift needs an encoder of one direction per latent (W_enc [d_in, latents]), which this SAE "
            "does not have; choose another ranking"
        )
    return survey.alignment


RANKINGS = {
    "two-sided": Ranking(
        "the rarer sign's share of a latent's firings, min(rate+, rate−) / (rate+ + rate−), highest (0.5) "
        "first, without latents that fire with one sign only",
        _two_sided,
    ),
    "rate": Ranking("the share of tokens on which the latent fires, rate+ + rate−, highest first", _rate),
    "concept": Ranking(
        "on the tiny world, how well a latent's firing with one sign marks the words of one concept or pole: "
        "the F1 score, of the better sign, highest first",
        _concept,
        of_words=True,
    ),
    "opposites": Ranking(
        "the cosine between a latent's decoder row and the row most opposite to it, lowest first, each pair "
        "once",
        _opposites,
        highest_first=False,
        pairs=True,
    ),
    "drift": Ranking(
        "the cosine between a latent's encoder direction and its decoder row, lowest first; it is 1 before "
        "training",
        _drift,
        highest_first=False,
    ),
}
"""Name -> order."""


def usual_ranking(survey: Survey) -> str:
    """`two-sided` if any counted latent fires with both signs, else `rate`."""
    both = (survey.firings > 0).all(0) & survey.counted
    return "two-sided" if bool(both.any()) else "rate"
