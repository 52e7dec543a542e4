"""Candidates for steering along a contrast of two lists of prompts: directions, and latents of an SAE.

Which direction or latent steers best cannot be known without steering. These functions propose `number` of
them per method, the most promising first, so that methods can be compared at an equal number of tries.
Latents are ranked in several ways (`latent_rankings`), in units of the residual stream, and the rankings take
turns. Flipping the signs of latents, reordering them, or writing the same SAE in another unit proposes the
same directions, and the split view proposes those of an SAE with the poles as separate latents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, Literal

import torch
from torch import Tensor

from abench.errors import UserError
from abench.latents.decoding import latent_directions
from abench.lm.models import LanguageModel
from abench.lm.tokens import prompt_rows
from abench.sae import SAE
from abench.steering.concepts import Pooling, checked_prompts, pooled_differences
from abench.steering.distinct import DistinctDirections
from abench.steering.interventions import AblateDirection, AddDirection, ClampLatent, Intervention
from abench.steering.latent_rankings import ContrastCodes, LatentRanking, latent_rankings

_NO_DIFFERENCE = 1e-4
"""Norm of a difference in means, relative to the residual stream, that counts as none: mere rounding."""

DirectionWay = Literal["add", "ablate"]


@dataclass(frozen=True, eq=False)
class DirectionCandidate:
    """A direction to add, or to remove from the residual stream."""

    direction: Tensor
    """[d_model], unit norm, float32, on the CPU; points to the side of the positive prompts."""
    by: str
    """How it was found: `mean`, `last`, or the position of a token counted from the end, such as `-2`."""
    way: DirectionWay = "add"

    @property
    def has_strength(self) -> bool:
        """Whether `at` depends on the length: a direction is removed as a whole."""
        return self.way == "add"

    def at(self, length: float) -> Intervention:
        """The intervention that moves the residual stream by a signed length; ablation has no length."""
        return AddDirection(self.direction, length) if self.has_strength else AblateDirection(self.direction)

    def plain(self) -> dict[str, Any]:
        """A description as plain JSON."""
        return {"method": {"add": "addition", "ablate": "ablation"}[self.way], "by": self.by}

    def __repr__(self) -> str:
        return f"DirectionCandidate({self.way}, by {self.by}, d_model {len(self.direction)})"


@dataclass(frozen=True, eq=False)
class LatentCandidate:
    """A latent to clamp, and its pole on the side of the positive prompts, or towards the objective."""

    sae: SAE
    latent: int
    sign: int
    """The pole, 1 or −1."""
    by: str
    """The ranking that it was found by, and its pooling."""
    score: float
    """Its value in that ranking, at least 0 in direction of the pole."""
    keep_error: bool = True
    """As in `ClampLatent`."""

    @property
    def has_strength(self) -> bool:
        """True: a latent is clamped to a value."""
        return True

    def at(self, length: float) -> Intervention:
        """The intervention that clamps the latent to a code of this length, in units of the residual stream.

        A negative length clamps it to the opposite pole.
        """
        return ClampLatent(self.sae, self.latent, self.sign * length, self.keep_error)

    def plain(self) -> dict[str, Any]:
        """A description as plain JSON."""
        pole = "+" if self.sign > 0 else "−"
        return {"method": "clamping", "by": self.by, "latent": self.latent, "pole": pole, "score": self.score}

    def __repr__(self) -> str:
        return f"LatentCandidate(latent {self.latent}, sign {self.sign:+d}, by {self.by}, {self.score:.4g})"


def direction_candidates(
    lm: LanguageModel,
    positive: Sequence[str],
    negative: Sequence[str],
    site: str,
    *,
    number: int = 16,
    ablation: bool = True,
) -> tuple[list[DirectionCandidate], float]:
    """Up to `number` differences in means (DiM), and the mean norm of the residual stream over the prompts.

    Over all tokens, at the last token, at the one before it, and so on as far back as the shortest prompt
    reaches. With `ablation`, each is to be added and to be removed, which are two candidates. Directions that
    coincide are proposed once. Raises UserError as `mean_difference` does.
    """
    prompts = checked_prompts(lm, positive, negative)
    shortest = min(len([t for t in row if t not in lm.special_ids]) for row in prompt_rows(lm, prompts))
    ways: tuple[DirectionWay, ...] = ("add", "ablate") if ablation else ("add",)
    places = range(-2, -min(shortest, number) - 1, -1)
    poolings: list[Pooling | int] = ["mean", "last", *places][: -(-number // len(ways))]
    found, norm = pooled_differences(lm, prompts, len(positive), site, poolings)
    lengths = found.norm(dim=-1)
    if not bool((lengths > _NO_DIFFERENCE * norm).any()):
        raise UserError(f"the positive and the negative prompts do not differ at {site}")
    distinct = DistinctDirections()
    candidates = []
    for pooling, difference, length in zip(poolings, found, lengths, strict=True):
        if length > _NO_DIFFERENCE * norm and distinct.is_new(direction := (difference / length).float()):
            candidates += [DirectionCandidate(direction, str(pooling), way) for way in ways]
    return candidates[:number], norm


def random_directions(d_model: int, number: int, *, seed: int) -> list[DirectionCandidate]:
    """Uniformly distributed directions: what a push of the same length does in any direction."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(number, d_model, generator=generator, dtype=torch.float64)
    return [DirectionCandidate((row / row.norm()).float(), "random") for row in rows]


def latent_candidates(
    sae: SAE,
    codes: ContrastCodes,
    *,
    number: int = 16,
    gradient: Tensor | None = None,
    keep_error: bool = True,
) -> list[LatentCandidate]:
    """Up to `number` latents of an SAE, from all rankings of `latent_rankings` in turn; none if none differs.

    `codes` are those of the contrast, `contrast_codes(...)(sae)`. Latents whose directions coincide or are
    opposite are proposed once: clamping either to both signs does the same. `gradient` [d_model] is the
    result of `objective_gradient`; without it, latents are not ranked by it.
    """
    rankings = latent_rankings(sae, codes, gradient=gradient)
    distinct = DistinctDirections()

    def proposed(by: str, ranking: LatentRanking) -> Iterator[LatentCandidate]:
        for latent in ranking.order():
            if distinct.is_new(latent_directions(sae, [latent])[0]):
                value = float(ranking.values[latent])
                yield LatentCandidate(sae, latent, 1 if value > 0 else -1, by, abs(value), keep_error)

    turns = zip_longest(*(proposed(by, ranking) for by, ranking in rankings.items()))
    return list(islice((each for turn in turns for each in turn if each is not None), number))


def random_latents(
    sae: SAE, among: Sequence[int], number: int, *, seed: int, keep_error: bool = True
) -> list[LatentCandidate]:
    """Up to `number` latents out of `among`, drawn at random but not by their place in the dictionary.

    Each is the one whose direction is closest to a random line. The draw is therefore the same for an SAE
    whose latents are flipped or reordered.
    """
    if not among:
        return []
    rows = latent_directions(sae, list(among)).float().cpu()
    chosen: dict[int, LatentCandidate] = {}
    for line in random_directions(rows.shape[1], 4 * number, seed=seed):
        cosines = rows @ line.direction
        # Of two opposite directions, the one on the side of the line.
        place = int(cosines.argmax() if cosines.max() >= cosines.abs().max() else cosines.argmin())
        sign = 1 if cosines[place] > 0 else -1
        found = LatentCandidate(sae, among[place], sign, "random", float(cosines[place].abs()), keep_error)
        chosen.setdefault(found.latent, found)
    return list(chosen.values())[:number]
