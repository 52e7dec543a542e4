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
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from abench import (
    Amount,
    Context,
    Cost,
    CostSetting,
    InputFile,
    Metric,
    Parts,
    Precondition,
    Scores,
    Skip,
    Task,
    UserError,
    View,
    problems_of,
)

from .._shared.labelled import is_tiny
from .._shared.only_if_set import OnlyIfSet
from .._shared.revisions import HubData
from .answers import Known, ask
from .bank import Bank
from .cost import Exchanged, priced
from .mask import Effect, Fit, effect, learn_mask, reconstructions
from .own_prompts import attributes_in
from .pairs import Experiment, Pair, experiments
from .prompts import HUB_ATTRIBUTES, REPOSITORY, TINY_ATTRIBUTES, Prompt, prompts_by_kind
from .selection import (
    Attributes,
    Granularity,
    scored_parts,
    selected,
    too_few_answers,
    too_few_pairs,
    without,
)

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, LanguageModel

FEWEST = 20
"""Minimum number of known prompts about an attribute; with fewer, a score would be noise."""
_ENTITIES = 500
"""Entities per kind if `entities` is no number."""
AtLeastTwo = Annotated[tuple[str, ...], Field(min_length=2)]
Kinds = Annotated[tuple[str, ...], Field(min_length=1)]
LEAST_CEILING = 0.1
"""Minimum cause score of exchanging the whole residual stream; below it, a site has nothing to find."""


class Ravel(HubData, OnlyIfSet, Task):
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
            items="attributes.*.*.cause",
        ),
        Metric(
            "isolation_score",
            True,
            "isolation",
            description="share of answers about other attributes that stay the same",
            items="attributes.*.*.isolation",
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

    only_if_set: ClassVar[tuple[str, ...]] = ("prompts",)

    prompts: Annotated[str | None, InputFile()] = Field(None, min_length=1)
    """Prompts of your own, in place of RAVEL's: a folder with RAVEL's files, or a file with the columns
    entity, attribute, prompt (with %s for the entity), label and, if there are several, kind."""
    attributes: dict[str, AtLeastTwo] | Literal["available"] | None = None
    """Kind of entity -> at least two attributes; null means sae-bench's six, five in the tiny world, or
    all in `prompts`; `available` those of them about which the model completes enough prompts correctly."""
    pairs: int = Field(5000, ge=2, le=10**7)
    """Maximum number of cause pairs, and of isolation pairs, per attribute; at most one per known prompt."""
    entities: Kinds | Literal["available"] | Annotated[int, Field(ge=2, le=10**7)] = _ENTITIES
    """A number: entities used per kind, those with the most prompts that the model completes correctly. A
    list, e.g. `[city]`: only these kinds of entities, with 500 entities each. `available`: the kinds about
    all of whose attributes the model completes enough prompts correctly."""
    train_share: float = Field(0.7, gt=0, lt=1)
    """Share of the pairs on which the mask is learnt; scores are computed on the others."""
    learning_rate: float = Field(1e-3, gt=0, le=1e6)
    """Adam's learning rate for the mask."""
    epochs: int = Field(2, ge=1, le=100_000)
    """Passes over the training pairs."""
    batch_size: int = Field(32, ge=1, le=10**7)
    """Pairs per training step."""
    generated_tokens: int = Field(6, ge=1, le=1000)
    """Tokens generated per completion; answers are judged by the completion."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._experiments(lm, ctx)
        return None

    def cost(self, setting: CostSetting) -> Cost | None:
        if self.prompts is not None or isinstance(self.attributes, dict):
            return None  # their number is known only when they are read
        kinds = self.entities if isinstance(self.entities, tuple) else None
        sizes = (self.pairs, self.train_share, self.epochs, self.batch_size, self.generated_tokens)
        return priced(setting, kinds, Exchanged(*sizes))

    def prepare(self, lm: LanguageModel, ctx: Context) -> Exchanges:
        known, made, parts = self._experiments(lm, ctx)
        ctx.rests_on(parts)
        # `pairs` is an upper bound: the number of correctly completed prompts also limits the pairs.
        pairs = sum(len(each.train) + len(each.test) for each in made)
        ctx.used(Amount("pairs", pairs, pairs))
        bank, made = _banked(lm, ctx, known, made)
        exchanges = Exchanges(
            bank, tuple((each, self._ceiling(each, bank, lm, ctx)) for each in made)
        ).checked(ctx.site)
        ctx.measured("exchange", exchanges.ceiling)
        return exchanges

    def _experiments(self, lm: LanguageModel, ctx: Context) -> Drawn:
        """Prompts that the model completes correctly, and pairs of them.

        Raises Skip for too few of them, and UserError for prompts that cannot be read.
        """
        return ctx.once("experiments", partial(self._asked, lm, ctx))

    def _asked(self, lm: LanguageModel, ctx: Context) -> Drawn:
        default = self._default(ctx)
        chosen = selected(self.attributes, self.entities, default)
        answers: dict[str, Answers] = {}

        def answer(kind: str) -> None:
            answers[kind] = self._answers(kind, chosen[kind], lm, ctx)

        unread = problems_of(tuple(chosen), answer)
        problems = {(kind, name): error for kind, error in unread.items() for name in chosen[kind]}
        left = without(chosen, problems, whole_kinds=self._granularity == "kinds")
        known: list[Known] = []
        made: list[Experiment] = []
        # Leaving out an attribute changes which entities are used, so the others are checked again.
        while left:
            known, made, found = self._drawn(left, answers, ctx)
            if not found:
                break
            problems |= found
            left = without(left, problems, whole_kinds=self._granularity == "kinds")
        return Drawn(known, made, scored_parts(chosen, left, problems, default, self._granularity))

    def _default(self, ctx: Context) -> Mapping[str, tuple[str, ...]]:
        if self.prompts is not None:
            return attributes_in(Path(self.prompts))
        return TINY_ATTRIBUTES if is_tiny(ctx) else HUB_ATTRIBUTES

    @property
    def _granularity(self) -> Granularity:
        if self.attributes == "available":
            return "attributes"
        return "kinds" if self.entities == "available" else "all"

    def _answers(self, kind: str, attributes: Sequence[str], lm: LanguageModel, ctx: Context) -> Answers:
        revision = self.revisions.get(REPOSITORY)
        wanted = {kind: tuple(attributes)}
        own = None if self.prompts is None else Path(self.prompts)
        prompts = prompts_by_kind(wanted, ctx, ctx.evaluation.limit, revision, own)[kind]
        with ctx.steps(f"ravel: prompts about {kind} entities", len(prompts), "prompts") as steps:
            right = ask(lm, ctx.site, prompts, self.generated_tokens, steps.advance_to)
        ctx.say(f"{lm.name} completes {len(right)} of {len(prompts)} prompts about {kind} entities correctly")
        return Answers(prompts, right)

    def _drawn(
        self, attributes: Attributes, answers: Mapping[str, Answers], ctx: Context
    ) -> tuple[list[Known], list[Experiment], dict[tuple[str, str], Skip | UserError]]:
        """Known prompts and experiments for these attributes, and the problems of some of them."""
        known: list[Known] = []
        problems: dict[tuple[str, str], Skip | UserError] = {}
        most = self.entities if isinstance(self.entities, int) else _ENTITIES
        fewest = min(FEWEST, ctx.evaluation.limit or FEWEST)
        for kind, names in attributes.items():
            asked, right = answers[kind]
            kept = _best_entities([each for each in right if each.prompt.attribute in names], most)
            problems |= too_few_answers(kind, names, asked, kept, fewest=fewest)
            known += kept
        if problems:
            return known, [], problems
        made = experiments(
            known,
            {kind: tuple(names) for kind, names in attributes.items()},
            pairs=self.pairs,
            train_share=self.train_share,
            seed=ctx.evaluation.seed,
        )
        return known, made, too_few_pairs(made)

    def _ceiling(self, each: Experiment, bank: Bank, lm: LanguageModel, ctx: Context) -> float:
        """The cause score when the source's whole residual stream replaces the base's, without an SAE."""
        everything = bank.at_entity([pair.source for pair in each.test])
        title = f"ravel: exchanging the whole residual stream, {each.attribute} of {each.kind}"
        return self._effect(everything, each, bank, lm, ctx, title).cause

    def _effect(
        self, values: Tensor, each: Experiment, bank: Bank, lm: LanguageModel, ctx: Context, title: str
    ) -> Effect:
        with ctx.steps(title, len(each.test), "pairs") as steps:
            return effect(values, each.test, bank, lm, ctx.site, self.generated_tokens, steps.advance_to)

    def score(
        self, sae: SAE, prepared: Exchanges, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        fit = Fit(self.learning_rate, self.epochs, self.batch_size)
        found: dict[str, dict[str, Result]] = {}
        for each, ceiling in prepared.experiments:
            what = f"{each.attribute} of {each.kind}"
            with ctx.steps(f"ravel: mask for {what}", self.epochs * len(each.train), "pairs") as steps:
                mask = learn_mask(sae, each.train, prepared.bank, lm, ctx.site, fit, steps.advance_to)
            values = reconstructions(sae, mask, each.test, prepared.bank)
            result = self._effect(values, each, prepared.bank, lm, ctx, f"ravel: exchanging {what}")
            found.setdefault(each.kind, {})[each.attribute] = Result(result, int(mask.sum()), ceiling)
        return _scores(found), {"attributes": _details(found)}


class Answers(NamedTuple):
    """The prompts about a kind of entity, and those that the model completes correctly."""

    asked: list[Prompt]
    right: list[Known]


class Drawn(NamedTuple):
    """The known prompts, the experiments with pairs of them, and the parts of the score."""

    known: list[Known]
    experiments: list[Experiment]
    parts: Parts


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
                f"whole activation there brings the other entity's answer in {ceiling:.0%} of the pairs"
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
    return f"; use an earlier block, e.g. --layers {int(block[1]) - 1}"


def _best_entities(known: Sequence[Known], most: int) -> list[Known]:
    """The known prompts of the entities with the most known prompts; ties go to the first ones."""
    counts: dict[str, int] = {}
    for each in known:
        counts[each.prompt.entity] = counts.get(each.prompt.entity, 0) + 1
    kept = set(sorted(counts, key=lambda entity: -counts[entity])[:most])
    return [each for each in known if each.prompt.entity in kept]


def _banked(
    lm: LanguageModel, ctx: Context, known: Sequence[Known], made: Sequence[Experiment]
) -> tuple[Bank, list[Experiment]]:
    """A bank of only the prompts that occur in a pair, and the experiments with their new indices."""
    pairs = [pair for each in made for pair in (*each.train, *each.test)]
    used = sorted({number for pair in pairs for number in (pair.base, pair.source)})
    place = {number: i for i, number in enumerate(used)}

    def moved(old: Sequence[Pair]) -> tuple[Pair, ...]:
        return tuple(replace(p, base=place[p.base], source=place[p.source]) for p in old)

    with ctx.steps("ravel: the residual stream of prompts", len(used), "prompts") as steps:
        bank = Bank(
            lm,
            ctx.site,
            [known[number] for number in used],
            {place[pair.base] for pair in pairs},
            done=steps.advance_to,
        )
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
