"""Spurious correlation removal: does ablating a few latents remove a probe's spurious correlation?

SAEBench's evaluation (Karvonen et al. 2025, after SHIFT, Marks et al. 2024), computed from pooled codes; see
tasks/_shared/ablation.py. No score changes when a latent's sign is flipped in encoder and decoder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from pydantic import Field, model_validator

from abench import Context, Cost, CostSetting, Metric, Parts, Precondition, Scores, Skip, UserError

from ._shared.ablation import (
    NUMBERS,
    Contrasts,
    PooledLatents,
    ProbeAblation,
    Probed,
    metric,
    probed,
    strongest,
)
from ._shared.data_sets import usable_data_sets
from ._shared.labelled import TINY_PAIRS, Quadrants, file_rows, is_tiny, quadrants
from ._shared.labelled_files import is_file, title_of
from ._shared.labelled_hub import WITH_SECOND_ATTRIBUTE
from ._shared.linear_probes import ProbeQuestion, seed_of
from ._shared.settings import setting

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, LanguageModel

LEAST_GAP = Fraction(1, 1000)
"""Smallest loss of accuracy from the spurious correlation for which its removal is meaningful.

The value is sae-bench's. Because sae-bench compares floats, one text in 1,000 suffices there at some
accuracies but not at others.
"""

_HUB_PAIRS = 4
"""Pairs of classes in each of sae-bench's data sets."""

MOST_PAIRS = 6
"""A file's pairs of labels are all scored if there are no more than this, i.e. up to four labels."""

_NO_COST = "the correlation costs the probe no accuracy"

FIRST, SECOND, BIASED = range(3)
"""The probes of a pair: for the two classes, for the second attribute, and for both perfectly correlated."""

Correlated: TypeAlias = "tuple[list[str], list[ProbeQuestion]]"
"""Texts, and the questions about them."""

_TITLES = {
    "metric": "in the direction in which the correlation costs more accuracy",
    "dir1": "second attribute's latents ablated, classes tested",
    "dir2": "classes' latents ablated, second attribute tested",
}


def _metrics() -> tuple[Metric, ...]:
    return tuple(
        metric(
            f"scr_{part}_threshold_{number}",
            number,
            f"share of the accuracy lost to a spurious correlation that ablating {number} latents restores, "
            f"{meaning}",
            items=f"pairs.*.scores.{part}.{number}",
            title="SCR" if part == "metric" else "",
        )
        for number in NUMBERS
        for part, meaning in _TITLES.items()
    )


class SCR(ProbeAblation):
    """Does ablating the latents of a spuriously correlated attribute remove the bias of a probe?

    A probe learns two classes from texts in which a second attribute is perfectly correlated with them.
    Latents are selected by |(mean code on one side − mean code on the other) × (probe · decoder row)| for the
    attribute to be removed. The score is (accuracy ablated − accuracy biased) / (accuracy of an unbiased
    probe − accuracy biased). It can be negative or above 1.

    Chanin (arXiv:2605.18229) finds that SCR fails several reliability checks at its usual settings. Read it
    together with other tasks, and do not interpret small differences.
    """

    name: ClassVar[str] = "scr"
    version: ClassVar[str] = "4"
    metrics: ClassVar[tuple[Metric, ...]] = _metrics()
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "probe_accuracy",
            "the accuracy of unbiased probes on the residual stream, for the attribute where it is lowest,",
            0.6,
            "Chance is 0.5: the model does not represent this attribute here, so no latent can carry it.",
        ),
        Precondition(
            "cost",
            "the accuracy that the spurious correlation costs, for the pair of classes where it costs least,",
            0.05,
            "Scores are shares of this accuracy, so a few texts decide them where it is small.",
            metrics=tuple(f"scr_metric_threshold_{number}" for number in NUMBERS),
        ),
    )
    """Each question has as many texts on one side as on the other. At a cost of 0.05 one of sae-bench's 1,000
    test texts is 0.02 of a pair's score. Pairs without any cost are left out of the score."""
    # Probes on the residual stream use sae-bench's fixed learning rate and penalty.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(
        [*(each.name for each in _metrics()), "probe_accuracy", "cost"]
    )
    repositories: ClassVar[tuple[str, ...]] = WITH_SECOND_ATTRIBUTE
    only_if_set: ClassVar[tuple[str, ...]] = ("columns", "pairs")

    pairs: Mapping[str, tuple[tuple[str, str], ...]] = Field(default_factory=dict)
    """File -> its pairs of labels to score: `{mine.csv: [[doctor, nurse]]}`; by default every pair, which
    needs a choice for files with more than four labels."""

    @model_validator(mode="after")
    def _pairs_of_files(self) -> SCR:
        for name in self.pairs:
            if not is_file(name) or name not in (self.datasets or ()):
                raise ValueError(f"pairs: '{name}' is not one of the files in datasets")
        return self

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._data_sets(ctx)
        return None

    def cost(self, setting: CostSetting) -> Cost:
        tiny = setting.data.source == "tinyworld"
        chosen = self.datasets if isinstance(self.datasets, tuple) else None
        known = [len(pairs) for name, pairs in TINY_PAIRS.items() if chosen is None or name in chosen]
        pairs = sum(known) if tiny and known else _HUB_PAIRS * len(chosen or WITH_SECOND_ATTRIBUTE)
        pairs = sum(map(len, self.pairs.values())) or pairs
        # Six quarters of texts; the biased probe learns from as many texts as the two others.
        return self.priced([self.texts_of(6 / 4, setting)] * pairs, pairs, setting)

    def prepare(self, lm: LanguageModel, ctx: Context) -> Mapping[str, CorrelatedPair]:
        """Probes and the pooled codes of all SAEs, keyed by data set and pair of classes.

        Raises Skip if there is a direction in which the correlation costs no pair any accuracy.
        """
        data_sets = self._data_sets(ctx)
        ctx.rests_on(data_sets)
        prepared = {
            f"{name} {pair[0]}/{pair[1]}": self._prepared(name, pair, lm, ctx)
            for name in data_sets.used
            for pair in self._pairs(name, ctx)
        }
        if not _all_mean_something(prepared.values()):
            raise Skip(
                f"the correlation costs the probes of {len(prepared)} pairs of classes too little accuracy "
                "to measure its removal in both directions"
            )
        scored = {name: bool(pair.chosen) for name, pair in prepared.items()}
        if not all(scored.values()):
            left_out = (name for name, chosen in scored.items() if not chosen)
            used = tuple(name for name, chosen in scored.items() if chosen)
            ctx.rests_on(Parts("pairs of classes", used, dict.fromkeys(left_out, _NO_COST)))
        pairs = prepared.values()
        ctx.measured("probe_accuracy", min(min(pair.unbiased.values()) for pair in pairs))
        ctx.measured("cost", min(pair.gaps[d] for pair in pairs for d in pair.chosen))
        return prepared

    def _data_sets(self, ctx: Context) -> Parts:
        return usable_data_sets(self.name, self.datasets or None, tuple(_known_pairs(ctx)), self._check, ctx)

    def _check(self, name: str, ctx: Context) -> None:
        """Raise UserError for a data set without pairs of classes, and Skip for pairs with too few texts."""
        for pair in self._pairs(name, ctx):
            self._texts(name, pair, ctx)

    def _pairs(self, name: str, ctx: Context) -> Sequence[tuple[str, str]]:
        """The pairs of classes of a data set; raises UserError if there are none or too many."""
        if not is_file(name):
            pairs = _known_pairs(ctx)
            if name not in pairs:
                raise UserError(f"scr: the data set '{name}' has no pairs of classes")
            return pairs[name]
        rows = file_rows(name, ctx, self.columns)
        if self.pairs.get(name):
            return self.pairs[name]
        labels = list(dict.fromkeys(each.label for each in rows))
        every = list(combinations(labels, 2))
        if len(every) > MOST_PAIRS:
            one = setting(self.name, "pairs", f"{{{name}: [[{labels[0]}, {labels[1]}]]}}")
            raise UserError(
                f"scr: {name} has {len(labels)} labels, which are {len(every)} pairs; choose pairs with {one}"
            )
        return every

    def _texts(self, name: str, pair: tuple[str, str], ctx: Context) -> tuple[Correlated, Correlated]:
        """Texts and questions for training and for testing."""
        data = quadrants(
            name,
            pair,
            ctx,
            **self.sizes(tiny=is_tiny(ctx)),
            revisions=self.revisions,
            columns=self.columns,
        )
        return correlated(data, data.train), correlated(data, data.test)

    def _prepared(self, name: str, pair: tuple[str, str], lm: LanguageModel, ctx: Context) -> CorrelatedPair:
        kinds, seed = (FIRST, SECOND, BIASED), ctx.evaluation.seed
        seeds = [seed_of(seed, title_of(name), *pair, number) for number in kinds]
        title = f"scr: {name} {pair[0]}/{pair[1]}"
        return CorrelatedPair.of(probed(lm, ctx, *self._texts(name, pair, ctx), self, seeds, title))

    def score(
        self, sae: SAE, prepared: Mapping[str, CorrelatedPair], lm: LanguageModel, ctx: Context
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
class CorrelatedPair:
    """Two classes and a second attribute: three probes, and the accuracy that the correlation costs."""

    probed: Probed
    biased: Mapping[int, float]
    """Accuracy of the biased probe on the unbiased texts, per direction."""
    unbiased: Mapping[int, float]
    """Accuracy of the probe trained on unbiased texts, per direction."""

    @classmethod
    def of(cls, probes: Probed) -> CorrelatedPair:
        clean = probes.clean
        asked = {direction: probes.test[_tested(direction)] for direction in (1, 2)}
        return cls(
            probes,
            {direction: question.accuracy(clean[:, BIASED]) for direction, question in asked.items()},
            {d: question.accuracy(clean[:, _tested(d)]) for d, question in asked.items()},
        )

    @property
    def gaps(self) -> dict[int, float]:
        """The accuracy that the correlation costs, for each direction in which it costs enough.

        Without a gap there is nothing to restore; sae-bench scores such a pair as 0.
        """
        return {d: self.unbiased[d] - self.biased[d] for d in (1, 2) if self._cost(d) >= LEAST_GAP}

    def _cost(self, direction: int) -> Fraction:
        """The cost in accuracy as an exact fraction, from the numbers of correctly classified texts."""
        texts = len(self.probed.test[_tested(direction)].rows)
        unbiased, biased = (round(each[direction] * texts) for each in (self.unbiased, self.biased))
        return Fraction(unbiased - biased, texts)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The direction in which the biased probe is worse, if it has a gap; both directions on a tie.

        sae-bench gives no score to a pair with a tie.
        """
        worst = min(self.biased.values())
        return tuple(d for d in self.gaps if self.biased[d] == worst)

    def scores(self, sae: SAE) -> dict[str, dict[int, float]]:
        """`dir1`, `dir2` and `metric`, only where defined, each keyed by the number of ablated latents."""
        found = self._directions(sae)
        scores = {f"dir{d}": each for d, each in found.items()}
        if self.chosen:
            scores["metric"] = {n: fmean(found[d][n] for d in self.chosen) for n in NUMBERS}
        return scores

    def _directions(self, sae: SAE) -> dict[int, dict[int, float]]:
        if not self.gaps:
            return {}
        # Once for both directions: it encodes texts and multiplies the whole decoder.
        use, moves = self.probed.use(sae), self.probed.directions(sae)
        effects = scr_effects(use.contrasts, moves)
        return {d: self._direction(d, use, moves, effects) for d in self.gaps}

    def _direction(
        self, direction: int, use: PooledLatents, moves: Tensor, effects: Tensor
    ) -> dict[int, float]:
        latents = strongest(effects[SECOND if direction == 1 else FIRST])
        question, before = self.probed.test[_tested(direction)], self.biased[direction]
        return {
            number: (question.accuracy(logits[:, BIASED]) - before) / self.gaps[direction]
            for number, logits in self.probed.ablated(use, moves, latents)
        }

    def details(self, scores: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
        return {
            "directions": list(self.chosen),
            "biased_accuracy": {f"dir{d}": accuracy for d, accuracy in self.biased.items()},
            "unbiased_accuracy": {f"dir{d}": accuracy for d, accuracy in self.unbiased.items()},
            "scores": {part: {str(n): value for n, value in each.items()} for part, each in scores.items()},
        }


def _all_mean_something(pairs: Collection[CorrelatedPair]) -> bool:
    """Whether each of the declared means has at least one pair."""
    return any(pair.chosen for pair in pairs) and all(any(d in pair.gaps for pair in pairs) for d in (1, 2))


def _tested(direction: int) -> int:
    """The unbiased question on which a direction tests the biased probe."""
    return FIRST if direction == 1 else SECOND


def scr_effects(contrasts: Contrasts, directions: Tensor) -> Tensor:
    """Effects of latents on probes, [probes, latents]; independent of the sign of a latent.

    For a non-negative SAE they equal sae-bench's.
    """
    return ((contrasts.positive - contrasts.negative) * directions).abs()


def correlated(data: Quadrants, corners: Mapping[tuple[int, int], Sequence[str]]) -> Correlated:
    """All texts, corner by corner, and the questions FIRST, SECOND and BIASED about them.

    The biased question uses the texts of the corners (0, 0) and (1, 1), at most twice as many of each as the
    smallest corner has; the other questions use as many texts of each corner as the smallest has. Raises Skip
    for a corner without texts.
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
        ProbeQuestion(torch.cat([some[0, 0], some[0, 1]]), torch.cat([some[1, 0], some[1, 1]])),
        ProbeQuestion(torch.cat([some[0, 0], some[1, 0]]), torch.cat([some[0, 1], some[1, 1]])),
        ProbeQuestion(rows[0, 0][:diagonal], rows[1, 1][:diagonal]),
    ]


def _known_pairs(ctx: Context) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Data set -> pairs of classes, for the run's data source."""
    if is_tiny(ctx):
        return TINY_PAIRS
    from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig

    pairs: Mapping[str, Sequence[tuple[str, str]]] = ScrAndTppEvalConfig().column1_vals_lookup
    return pairs
