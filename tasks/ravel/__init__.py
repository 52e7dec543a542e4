"""RAVEL: can one attribute of an entity be changed through its latents while the others stay the same?

Cities have a country, a continent and a language; prize winners have a country of birth, a field and a
gender. For each attribute, a mask over latents is learnt. When the masked latents of another entity are
patched in at the entity's last token, they should bring that entity's answer (cause) and leave answers about
other attributes unchanged (isolation). Follows Huang et al. 2024 in SAEBench's form. A mask covers whole
latents, including their sign, so scores do not change when a latent is flipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from abench import Amount, Context, Metric, Precondition, Scores, Skip, Task, View

from .._shared.labelled import is_tiny
from .._shared.revisions import HubData
from .answers import Known, ask
from .bank import Bank
from .mask import Effect, Fit, effect, learn_mask, reconstructions
from .pairs import Experiment, Pair, experiments
from .prompts import HUB_ATTRIBUTES, REPOSITORY, TINY_ATTRIBUTES, Prompt, prompts_by_kind

if TYPE_CHECKING:
    from abench import SAE, LanguageModel

FEWEST = 20
"""Minimum number of known prompts about an attribute; with fewer, a score would be noise."""
LEAST_CEILING = 0.1
"""Minimum cause score of exchanging the whole residual stream; below it, a site has nothing to find."""


class Ravel(HubData, Task):
    """Disentanglement: attributes of cities and people are changed one at a time through their latents."""

    name: ClassVar[str] = "ravel"
    version: ClassVar[str] = "3"
    views: ClassVar[tuple[View, ...]] = ("native", "split")
    repositories: ClassVar[tuple[str, ...]] = (REPOSITORY,)
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "disentanglement_score",
            True,
            "RAVEL",
            headline=True,
            paper="score",
            description="mean of cause and isolation score, over attributes, then over kinds of entity",
        ),
        Metric(
            "cause_score",
            True,
            "cause",
            description="share of answers about an attribute that match the entity the latents come from",
        ),
        Metric(
            "isolation_score",
            True,
            "isolation",
            description="share of answers about other attributes that stay the same",
        ),
    )
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "exchange",
            "the share of pairs in which exchanging the whole residual stream at the entity, without an SAE, "
            "brings the other entity's answer,",
            0.5,
            "The model has read the attributes from the name before this site, so exchanging latents here "
            "cannot change them.",
        ),
    )
    """The mean over the attributes of the largest possible cause score. Half is our choice: below it, most of
    the score is isolation, which is perfect where nothing can change."""

    attributes: dict[str, Annotated[tuple[str, ...], Field(min_length=2)]] | None = None
    """Kind of entity -> at least two attributes; null means sae-bench's six, or five in the tiny world."""
    pairs: int = Field(5000, ge=2, le=10**7)
    """Maximum number of cause pairs, and of isolation pairs, per attribute; at most one per known prompt."""
    entities: int = Field(500, ge=2, le=10**7)
    """Entities used per kind: those with the most prompts that the model completes correctly."""
    train_share: float = Field(0.7, gt=0, lt=1)
    """Share of the pairs on which the mask is learnt; scores are computed on the others."""
    learning_rate: float = Field(1e-3, gt=0, le=1e6)
    epochs: int = Field(2, ge=1, le=100_000)
    batch_size: int = Field(32, ge=1, le=10**7)
    """Pairs per training step."""
    generated_tokens: int = Field(6, ge=1, le=1000)
    """Tokens generated per completion; answers are judged by the completion."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._experiments(lm, ctx)
        return None

    def prepare(self, lm: LanguageModel, ctx: Context) -> Exchanges:
        known, made = self._experiments(lm, ctx)
        # `pairs` is an upper bound: the number of correctly completed prompts also limits the pairs.
        pairs = sum(len(each.train) + len(each.test) for each in made)
        ctx.used(Amount("pairs", pairs, pairs))
        bank, made = _banked(lm, ctx.site, known, made)
        exchanges = Exchanges(
            bank, tuple((each, self._ceiling(each, bank, lm, ctx.site)) for each in made)
        ).checked(ctx.site)
        ctx.measured("exchange", exchanges.ceiling)
        return exchanges

    def _experiments(self, lm: LanguageModel, ctx: Context) -> tuple[list[Known], list[Experiment]]:
        """Prompts that the model completes correctly, and pairs of them; raises Skip for too few."""
        return ctx.once("experiments", partial(self._asked, lm, ctx))

    def _asked(self, lm: LanguageModel, ctx: Context) -> tuple[list[Known], list[Experiment]]:
        attributes = self.attributes or (TINY_ATTRIBUTES if is_tiny(ctx) else HUB_ATTRIBUTES)
        known: list[Known] = []
        revision = self.revisions.get(REPOSITORY)
        for kind, prompts in prompts_by_kind(attributes, ctx, ctx.evaluation.limit, revision).items():
            right = ask(lm, ctx.site, prompts, self.generated_tokens)
            ctx.say(
                f"{lm.name} completes {len(right)} of {len(prompts)} prompts about {kind} entities correctly"
            )
            kept = _best_entities(right, self.entities)
            _check(kind, attributes[kind], prompts, kept, fewest=min(FEWEST, ctx.evaluation.limit or FEWEST))
            known += kept
        made = experiments(
            known, attributes, pairs=self.pairs, train_share=self.train_share, seed=ctx.evaluation.seed
        )
        _check_tests(made)
        return known, made

    def _ceiling(self, each: Experiment, bank: Bank, lm: LanguageModel, site: str) -> float:
        """The cause score when the source's whole residual stream replaces the base's, without an SAE."""
        everything = bank.at_entity([pair.source for pair in each.test])
        return effect(everything, each.test, bank, lm, site, self.generated_tokens).cause

    def score(
        self, sae: SAE, prepared: Exchanges, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        fit = Fit(self.learning_rate, self.epochs, self.batch_size)
        found: dict[str, dict[str, Result]] = {}
        for each, ceiling in prepared.experiments:
            mask = learn_mask(sae, each.train, prepared.bank, lm, ctx.site, fit)
            values = reconstructions(sae, mask, each.test, prepared.bank)
            result = effect(values, each.test, prepared.bank, lm, ctx.site, self.generated_tokens)
            found.setdefault(each.kind, {})[each.attribute] = Result(result, int(mask.sum()), ceiling)
        return _scores(found), {"attributes": _details(found)}


@dataclass(frozen=True)
class Exchanges:
    """The residual stream of the prompts, and each attribute's pairs with their ceiling."""

    bank: Bank
    experiments: tuple[tuple[Experiment, float], ...]

    @property
    def ceiling(self) -> float:
        """The mean cause score over the attributes when the whole residual stream is exchanged."""
        return fmean(ceiling for _, ceiling in self.experiments)

    def checked(self, site: str) -> Exchanges:
        """Return self; raises Skip if exchanging the whole residual stream changes too few answers."""
        ceiling = self.ceiling
        if ceiling < LEAST_CEILING:
            raise Skip(
                "at this site attributes are no longer read from the entity's last token: exchanging the "
                f"whole residual stream there brings the other entity's answer in {ceiling:.0%} of the pairs"
                f"{_earlier(site)}"
            )
        return self


@dataclass(frozen=True)
class Result:
    """One attribute's outcome."""

    effect: Effect
    latents: int
    """Number of exchanged latents."""
    ceiling: float


def _earlier(site: str) -> str:
    """Advice to use an earlier block; empty if there is none."""
    block = re.fullmatch(r"blocks\.(\d+)\..*", site)
    if block is None or block[1] == "0":
        return ""
    return f"; use an earlier block, e.g. --layer {int(block[1]) - 1}"


def _best_entities(known: Sequence[Known], most: int) -> list[Known]:
    """The known prompts of the entities with the most known prompts; ties go to the first ones."""
    counts: dict[str, int] = {}
    for each in known:
        counts[each.prompt.entity] = counts.get(each.prompt.entity, 0) + 1
    kept = set(sorted(counts, key=lambda entity: -counts[entity])[:most])
    return [each for each in known if each.prompt.entity in kept]


def _check(
    kind: str, attributes: Sequence[str], asked: Sequence[Prompt], known: Sequence[Known], *, fewest: int
) -> None:
    """Raise Skip if the model knows too little about an attribute.

    A mean over only the known attributes would be a different score.
    """
    for name in attributes:
        labels = [each.prompt.label for each in known if each.prompt.attribute == name]
        if len(labels) < fewest or len(set(labels)) < 2:
            total = sum(prompt.attribute == name for prompt in asked)
            raise Skip(
                f"the model completes only {len(labels)} of {total} prompts about the {name} of {kind} "
                f"entities correctly, with {len(set(labels))} different answers"
            )


def _check_tests(made: Sequence[Experiment]) -> None:
    for each in made:
        if not each.train or len({pair.isolates for pair in each.test}) < 2:
            raise Skip(
                f"{len(each.train) + len(each.test)} pairs about the {each.attribute} of {each.kind} "
                "entities are too few for both training and testing"
            )


def _banked(
    lm: LanguageModel, site: str, known: Sequence[Known], made: Sequence[Experiment]
) -> tuple[Bank, list[Experiment]]:
    """A bank of only the prompts that occur in a pair, and the experiments with their new indices."""
    pairs = [pair for each in made for pair in (*each.train, *each.test)]
    used = sorted({number for pair in pairs for number in (pair.base, pair.source)})
    place = {number: i for i, number in enumerate(used)}

    def moved(old: Sequence[Pair]) -> tuple[Pair, ...]:
        return tuple(replace(p, base=place[p.base], source=place[p.source]) for p in old)

    bank = Bank(lm, site, [known[number] for number in used], {place[pair.base] for pair in pairs})
    return bank, [replace(e, train=moved(e.train), test=moved(e.test)) for e in made]


def _scores(found: Mapping[str, Mapping[str, Result]]) -> dict[str, float]:
    cause = fmean(fmean(r.effect.cause for r in each.values()) for each in found.values())
    isolation = fmean(fmean(r.effect.isolation for r in each.values()) for each in found.values())
    return {
        "disentanglement_score": (cause + isolation) / 2,
        "cause_score": cause,
        "isolation_score": isolation,
    }


def _details(found: Mapping[str, Mapping[str, Result]]) -> dict[str, Any]:
    return {
        kind: {
            name: {
                "cause": result.effect.cause,
                "isolation": result.effect.isolation,
                "latents": result.latents,
                "ceiling": result.ceiling,
            }
            for name, result in each.items()
        }
        for kind, each in found.items()
    }
