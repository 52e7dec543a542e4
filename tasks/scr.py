"""Spurious correlation removal: does ablating a few latents unteach a probe what it learned by the way?

SAEBench's evaluation (Karvonen et al. 2025, after SHIFT, Marks et al. 2024), computed from pooled codes: see
tasks/ablation.py. No score changes when a latent's sign is flipped in encoder and decoder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from abench import Context, Metric, Scores, Skip, Task, UserError, View

from .ablation import NUMBERS, Contrasts, Probed, probed, strongest
from .labelled import TINY_PAIRS, Quadrants, is_tiny, quadrants
from .labelled_hub import WITH_SECOND_ATTRIBUTE
from .linear_probes import ProbeSettings, Question, seed_of
from .revisions import HubData

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

HEADLINE = 20
LEAST_GAP = Fraction(1, 1000)
"""Smallest accuracy the spurious correlation must cost for its removal to mean anything.

sae-bench's. It compares floats, by which one text in 1,000 is enough at some accuracies and not at others.
"""

FIRST, SECOND, BIASED = range(3)
"""The probes of a pair: of the two classes, of the second attribute, of both perfectly correlated."""

Correlated: TypeAlias = "tuple[list[str], list[Question]]"
"""Texts, and the questions about them."""

_TITLES = {
    "metric": "in the direction in which the correlation costs more accuracy",
    "dir1": "second attribute's latents ablated, classes tested",
    "dir2": "classes' latents ablated, second attribute tested",
}


def _metrics() -> tuple[Metric, ...]:
    return tuple(
        Metric(
            f"scr_{part}_threshold_{number}",
            True,
            title=f"SCR@{number}" if part == "metric" else "",
            headline=number == HEADLINE and part == "metric",
            paper="score" if number == HEADLINE and part == "metric" else None,
            description=f"share of the accuracy lost to a spurious correlation that ablating {number} "
            f"latents gives back, {meaning}",
        )
        for number in NUMBERS
        for part, meaning in _TITLES.items()
    )


class SCR(HubData, ProbeSettings, Task):
    """Ablating the latents of a spuriously correlated attribute should free a biased probe of it.

    A probe learns two classes from texts in which a second attribute goes with them perfectly. Latents are
    chosen by |(mean code on one side − mean code on the other) × (probe · decoder row)| for the attribute
    that is to go; the score is (accuracy ablated − accuracy biased) / (accuracy of an unbiased probe −
    accuracy biased). It can be negative, and above 1.

    Chanin (arXiv:2605.18229) finds that SCR fails several checks of reliability at its usual settings: read
    it beside other tasks, and small differences not at all.
    """

    name: ClassVar[str] = "scr"
    version: ClassVar[str] = "3"
    views: ClassVar[tuple[View, ...]] = ("native", "split")
    metrics: ClassVar[tuple[Metric, ...]] = _metrics()
    # Probes learn from the residual stream at the rate and with the penalty that sae-bench fixes.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(metric.name for metric in _metrics())
    repositories: ClassVar[tuple[str, ...]] = WITH_SECOND_ATTRIBUTE

    datasets: tuple[str, ...] | None = None
    """Data sets with a second attribute; None takes sae-bench's, or the two of the tiny world."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        for name, pair in self._pairs(ctx):
            self._texts(name, pair, ctx)
        return None

    def prepare(self, lm: LanguageModel, ctx: Context) -> Mapping[str, Pair]:
        """By data set and pair of classes: probes and the pooled codes of all SAEs.

        Raises Skip if there is a direction in which the correlation costs no pair any accuracy.
        """
        prepared = {
            f"{name} {pair[0]}/{pair[1]}": self._prepared(name, pair, lm, ctx)
            for name, pair in self._pairs(ctx)
        }
        if not _all_mean_something(prepared.values()):
            raise Skip(
                f"the correlation costs probes of {len(prepared)} pairs of classes too little accuracy for "
                "its removal to be measured in both directions"
            )
        return prepared

    def _pairs(self, ctx: Context) -> list[tuple[str, tuple[str, str]]]:
        """Data sets and pairs of their classes; UserError for a data set without any."""
        pairs = _known_pairs(ctx)
        unknown = [name for name in self.datasets or () if name not in pairs]
        if unknown:
            raise UserError(f"scr: there are no pairs of classes for the data set '{unknown[0]}'")
        return [(name, pair) for name in self.datasets or pairs for pair in pairs[name]]

    def _texts(self, name: str, pair: tuple[str, str], ctx: Context) -> tuple[Correlated, Correlated]:
        """Texts and questions to train and to test with."""
        data = quadrants(name, pair, ctx, **self.sizes(tiny=is_tiny(ctx)), revisions=self.revisions)
        return correlated(data, data.train), correlated(data, data.test)

    def _prepared(self, name: str, pair: tuple[str, str], lm: LanguageModel, ctx: Context) -> Pair:
        seeds = [seed_of(ctx.evaluation.seed, name, *pair, number) for number in (FIRST, SECOND, BIASED)]
        return Pair.of(probed(lm, ctx, *self._texts(name, pair, ctx), self, seeds))

    def score(
        self, sae: Any, prepared: Mapping[str, Pair], lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        each = {name: pair.scores(sae) for name, pair in prepared.items()}
        scores = {
            f"scr_{part}_threshold_{number}": fmean(s[part][number] for s in each.values() if part in s)
            for number in NUMBERS
            for part in _TITLES
        }
        return scores, {
            "pairs_scored": sum("metric" in s for s in each.values()),
            "pairs": {name: prepared[name].details(each[name]) for name in prepared},
        }


@dataclass(frozen=True)
class Pair:
    """Two classes and a second attribute: three probes, and what the correlation costs the biased one."""

    probed: Probed
    biased: Mapping[int, float]
    """By direction, the accuracy of the biased probe on the unbiased texts."""
    unbiased: Mapping[int, float]
    """By direction, the accuracy of the probe trained on unbiased texts."""

    @classmethod
    def of(cls, probes: Probed) -> Pair:
        clean = probes.clean
        asked = {direction: probes.test[_tested(direction)] for direction in (1, 2)}
        return cls(
            probes,
            {direction: question.accuracy(clean[:, BIASED]) for direction, question in asked.items()},
            {d: question.accuracy(clean[:, _tested(d)]) for d, question in asked.items()},
        )

    @property
    def gaps(self) -> dict[int, float]:
        """What the correlation costs, by direction; only those where it does.

        Without a gap there is nothing to give back; sae-bench counts such a pair as 0.
        """
        return {d: self.unbiased[d] - self.biased[d] for d in (1, 2) if self._cost(d) >= LEAST_GAP}

    def _cost(self, direction: int) -> Fraction:
        """The same as a fraction of the texts, from how many of them are on the right side."""
        texts = len(self.probed.test[_tested(direction)].rows)
        unbiased, biased = (round(each[direction] * texts) for each in (self.unbiased, self.biased))
        return Fraction(unbiased - biased, texts)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The direction in which the biased probe is worse, as far as it has a gap; both on a tie.

        sae-bench leaves a pair with a tie without a score.
        """
        worst = min(self.biased.values())
        return tuple(d for d in self.gaps if self.biased[d] == worst)

    def scores(self, sae: Any) -> dict[str, dict[int, float]]:
        """`dir1`, `dir2` and `metric`, as far as they mean something: by number of latents ablated."""
        directions = {d: self._direction(sae, d) for d in self.gaps}
        scores = {f"dir{d}": each for d, each in directions.items()}
        if self.chosen:
            scores["metric"] = {n: fmean(directions[d][n] for d in self.chosen) for n in NUMBERS}
        return scores

    def _direction(self, sae: Any, direction: int) -> dict[int, float]:
        use, directions = self.probed.use(sae), self.probed.directions(sae)
        removed = SECOND if direction == 1 else FIRST
        latents = strongest(scr_effects(use.contrasts, directions)[removed])
        question, before = self.probed.test[_tested(direction)], self.biased[direction]
        return {
            number: (question.accuracy(logits[:, BIASED]) - before) / self.gaps[direction]
            for number, logits in self.probed.ablated(use, directions, latents)
        }

    def details(self, scores: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
        return {
            "directions": list(self.chosen),
            "biased_accuracy": {f"dir{d}": accuracy for d, accuracy in self.biased.items()},
            "unbiased_accuracy": {f"dir{d}": accuracy for d, accuracy in self.unbiased.items()},
            "scores": {part: {str(n): value for n, value in each.items()} for part, each in scores.items()},
        }


def _all_mean_something(pairs: Collection[Pair]) -> bool:
    """Whether each of the declared means has a pair to be taken over."""
    return any(pair.chosen for pair in pairs) and all(any(d in pair.gaps for pair in pairs) for d in (1, 2))


def _tested(direction: int) -> int:
    """The unbiased question that a direction puts to the biased probe."""
    return FIRST if direction == 1 else SECOND


def scr_effects(contrasts: Contrasts, directions: Tensor) -> Tensor:
    """[probes, latents]; for a non-negative SAE sae-bench's, and the same whatever sign a latent has."""
    return ((contrasts.positive - contrasts.negative) * directions).abs()


def correlated(data: Quadrants, corners: Mapping[tuple[int, int], Sequence[str]]) -> Correlated:
    """All texts, corner by corner, and the questions FIRST, SECOND and BIASED about them.

    The biased question takes all texts of the corners (0, 0) and (1, 1), the others as many of each corner
    as the smallest has. Raises Skip for a corner without texts.
    """
    import torch

    rows: dict[tuple[int, int], Tensor] = {}
    texts: list[str] = []
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        if not corners.get(corner):
            who = f"'{data.classes[corner[0]]}' with '{data.values[corner[1]]}'"
            raise Skip(f"the data set '{data.name}' has no texts of {who}")
        rows[corner] = torch.arange(len(texts), len(texts) + len(corners[corner]))
        texts += corners[corner]
    each = min(map(len, rows.values()))
    diagonal = min(len(rows[0, 0]), len(rows[1, 1]), 2 * each)
    some = {corner: of[:each] for corner, of in rows.items()}
    return texts, [
        Question(torch.cat([some[0, 0], some[0, 1]]), torch.cat([some[1, 0], some[1, 1]])),
        Question(torch.cat([some[0, 0], some[1, 0]]), torch.cat([some[0, 1], some[1, 1]])),
        Question(rows[0, 0][:diagonal], rows[1, 1][:diagonal]),
    ]


def _known_pairs(ctx: Context) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Data set -> pairs of classes, of the run's data source."""
    if is_tiny(ctx):
        return TINY_PAIRS
    from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig

    pairs: Mapping[str, Sequence[tuple[str, str]]] = ScrAndTppEvalConfig().column1_vals_lookup
    return pairs
