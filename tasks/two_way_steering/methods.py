"""The movers that each method tries: directions that need no SAE, and latents of one.

Every method may try the same number of candidates. All are found in the same texts of the two poles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING

from .concepts import TwoPoles
from .movers import Line, OneLatent

if TYPE_CHECKING:
    import torch

    from abench import SAE, ContrastCodes, DistinctDirections, LanguageModel, OfEach

_PENALTIES = (1e-2, 1e-1, 1.0, 1e1, 1e2)
"""Inverse penalties of the probes, for activations divided by their mean norm."""

FindLines = Callable[["LanguageModel", TwoPoles, str, int, int], list[Line]]
"""Model, concept, site, number of candidates, seed -> directions."""


def norm_of(lm: LanguageModel, concept: TwoPoles, site: str) -> float:
    """The unit of strength: the mean norm of the residual stream over the tokens of the concept's texts."""
    from abench import mean_difference

    negative, positive = concept.texts
    return mean_difference(lm, positive, negative, site, pooling="mean").activation_norm


def dim(lm: LanguageModel, concept: TwoPoles, site: str, number: int, seed: int) -> list[Line]:
    """Differences in means: over all tokens, at the last token, at the one before it, and so on."""
    from abench import direction_candidates

    negative, positive = concept.texts
    found, _ = direction_candidates(lm, positive, negative, site, number=number, ablation=False)
    return [Line(each.direction, each.by) for each in found]


def random(lm: LanguageModel, concept: TwoPoles, site: str, number: int, seed: int) -> list[Line]:
    """Random directions: what a choice among as many pushes of the same lengths gives by itself."""
    from abench import random_directions

    return [Line(each.direction, "random") for each in random_directions(lm.d_model, number, seed=seed)]


def pca(lm: LanguageModel, concept: TwoPoles, site: str, number: int, seed: int) -> list[Line]:
    """Principal components of the texts' mean residual streams, the largest first.

    Each points to the side of the positive texts.
    """
    import torch

    x = _pooled(lm, concept, site)
    half = len(concept.texts[0])
    _, _, rows = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    found = []
    for place, row in enumerate(rows[: min(number, len(x) - 1)]):
        side = float((x[half:].mean(0) - x[:half].mean(0)) @ row)
        found.append(Line((row if side >= 0 else -row).float(), f"component {place + 1}"))
    return found


def probe(lm: LanguageModel, concept: TwoPoles, site: str, number: int, seed: int) -> list[Line]:
    """Weights of logistic regressions that tell the texts of the poles apart, for several penalties."""
    import torch
    from sklearn.linear_model import LogisticRegression

    x = _pooled(lm, concept, site)
    half = len(concept.texts[0])
    values = ((x - x.mean(0)) / x.norm(dim=-1).mean()).numpy()
    poles = [0] * half + [1] * (len(values) - half)
    found: list[Line] = []
    for penalty in _PENALTIES[:number]:
        model = LogisticRegression(C=penalty, max_iter=10_000, tol=1e-8).fit(values, poles)
        weights = torch.from_numpy(model.coef_[0]).double()
        if weights.norm() > 0:
            found.append(Line((weights / weights.norm()).float(), f"probe, C = {penalty:g}"))
    return found


LINES: Mapping[str, FindLines] = MappingProxyType({"dim": dim, "probe": probe, "pca": pca, "random": random})
"""The methods that need no SAE, by name."""


def codes_of(lm: LanguageModel, saes: Sequence[SAE], concept: TwoPoles, site: str) -> OfEach[ContrastCodes]:
    """The codes of the concept's texts for each SAE at a site."""
    from abench import contrast_codes

    negative, positive = concept.texts
    return contrast_codes(lm, saes, positive, negative, site)


def latents(sae: SAE, codes: ContrastCodes, number: int) -> tuple[list[OneLatent], list[OneLatent]]:
    """The latents that differ most between the poles' texts: for both directions, and as single units.

    The rankings of `abench.latent_rankings` take turns. Of the first list, no two latents lie on the same
    line. Of the second, no two point in the same direction: a non-negative SAE may have a latent for each
    pole on the same line, and both are units. Empty lists if no latent differs.
    """
    from abench import DistinctDirections, latent_directions, latent_rankings

    rankings = latent_rankings(sae, codes)
    turns = zip_longest(
        *(
            ((by, latent, float(each.values[latent])) for latent in each.order())
            for by, each in rankings.items()
        )
    )
    in_turn = [each for turn in turns for each in turn if each is not None]
    lines, units = DistinctDirections(), DistinctDirections(directed=not codes.signed)

    def distinct(seen: DistinctDirections) -> Iterator[OneLatent]:
        for by, latent, value in in_turn:
            if seen.is_new(latent_directions(sae, [latent])[0]):
                yield OneLatent(sae, latent, 1 if value > 0 else -1, by, codes.signed)

    return list(islice(distinct(lines), number)), list(islice(distinct(units), number))


def _pooled(lm: LanguageModel, concept: TwoPoles, site: str) -> torch.Tensor:
    """The mean residual stream of each text, the negative ones first: [texts, d_model], float64."""
    from abench import pool

    texts = [text for pole in concept.texts for text in pole]
    context = lm.max_context or max(map(len, texts)) + 1
    return pool(lm, texts, site=site, saes=[], context=context).residual.double()
