"""Two-way steering: does one latent move a model both ways along a concept?

The paper's claim is that one signed latent steers in both directions (arXiv 2510.00404, section 1); none of
its tables measures it. For each two-pole concept, methods search for the settings at which the continuations
of neutral stems show most of one pole and most of the other while they stay fluent. The range between the two
ends is reported on other stems. One latent in both directions is compared with one latent in one direction,
with the best pair of latents, and with directions that need no SAE: a difference in means (DiM), a probe,
principal components and random directions. The latter do not depend on SAEs and are measured once per site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from abench import (
    Amount,
    Context,
    Cost,
    CostSetting,
    InputFile,
    Metric,
    Precondition,
    Scores,
    Skip,
    Task,
    TaskFigure,
    TaskTable,
    UserError,
)
from abench.tinyworld import AXES

from .._shared.label_options import LabelledData
from .._shared.labelled import is_tiny
from .._shared.labelled_hub import REPOSITORIES
from .._shared.revisions import HubData
from . import figure
from .axes import axis_concept
from .concepts import PoleReader, Sizes, TwoPoles, counted
from .cost import Grid, priced
from .ends import Kind, Limits
from .intervals import bootstrap
from .methods import LINES, codes_of, latents, norm_of
from .search import Found, Part, Search
from .texts import HUB_CONCEPTS, file_at, text_concepts

if TYPE_CHECKING:
    from abench import SAE, ContrastCodes, LanguageModel, OfEach

_TINY_TOKENS, _TOKENS = 12, 40
"""Length of a continuation in the tiny world, whose texts are short, and elsewhere."""
_KINDS: tuple[Kind, ...] = ("both", "one", "pair")
_DRAWN = ("both", "dim")
"""The methods whose share against strength is drawn."""
_STEERED = ("range", "one_way", "pair", "of_dim")


class TwoWaySteering(HubData, LabelledData, Task):
    """How far one latent moves continuations to either pole of a concept while they stay fluent."""

    name: ClassVar[str] = "two_way_steering"
    version: ClassVar[str] = "1"
    in_all: ClassVar[bool] = False
    views: ClassVar[tuple[Any, ...]] = ("native", "split")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "range",
            True,
            "two-way range",
            headline=True,
            description="share of the positive pole at one end minus that at the other, of one latent",
            items="two_way.concepts.*.both.range",
        ),
        Metric(
            "one_way",
            True,
            "one way",
            headline=True,
            description="the same for one latent in one direction only; the other end is unsteered",
            items="two_way.concepts.*.one.range",
        ),
        Metric(
            "pair",
            True,
            "pair",
            headline=True,
            description="the same for two latents, each in one direction",
            items="two_way.concepts.*.pair.range",
        ),
        Metric(
            "of_dim",
            True,
            "minus DiM",
            headline=True,
            description="two-way range minus that of a difference in means",
        ),
        Metric("high", True, "high end", description="share of the positive pole at the high end"),
        Metric("low", False, "low end", description="share of the positive pole at the low end"),
        Metric(
            "loss",
            False,
            "fluency loss",
            description="nats per token more than unsteered, at the worse end, on the test stems",
        ),
        Metric(
            "degenerate",
            False,
            "degenerate",
            description="share of degenerate continuations at the worse end",
        ),
        Metric(
            "moved",
            False,
            "moved others",
            description="mean absolute change of the other concepts' shares between the two ends",
        ),
    )
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "direction_range",
            "the widest mean range that a method without an SAE reaches",
            0.1,
            "Nothing steers these concepts here, so that a latent cannot either.",
            metrics=_STEERED,
        ),
        Precondition(
            "reader_accuracy",
            "the accuracy of the classifier that reads poles, for the concept where it is lowest,",
            0.7,
            "Chance is 0.5: it does not tell the poles of short texts apart.",
            metrics=(*_STEERED, "high", "low", "moved"),
        ),
        Precondition(
            "other_concepts",
            "the number of other concepts that are read",
            1,
            "What else moves is known only if several concepts are named.",
            metrics=("moved",),
        ),
    )
    """With a range below 0.1, the best push changes the pole of fewer than one continuation in ten. An
    accuracy of 0.7 shrinks ranges to 40 % of what they are. The tiny world's oracle knows every word."""
    repositories: ClassVar[tuple[str, ...]] = REPOSITORIES
    check_options: ClassVar[Mapping[str, Any]] = {
        "concepts": ("gender", "size"),
        "candidates": 3,
        "strengths": (0.25, 0.5),
        "concept_texts": 16,
        "screening_stems": 2,
        "validation_stems": 4,
        "test_stems": 6,
        "new_tokens": 8,
    }

    concepts: Annotated[tuple[str, ...] | None, InputFile(file_at)] = Field(None, min_length=1)
    """Axes of the tiny world, files with the columns text and pole (and concept, if there are several), or
    labelled data sets of the hub with two of their classes (`Helsinki-NLP/europarl:en/fr`); null means all
    axes on the tiny world, otherwise sentiment and language."""
    candidates: int = Field(16, ge=1, le=10_000)
    """Maximum number of candidates per method."""
    strengths: tuple[Annotated[float, Field(gt=0, le=1e38)], ...] = Field(
        (0.125, 0.25, 0.5, 1.0), min_length=1
    )
    """Distances by which the residual stream is moved, in units of its mean norm; each in both directions."""
    max_loss: float = Field(0.3, ge=0, le=1e3)
    """Maximum fluency loss of a setting, in nats per token under the unsteered model."""
    max_degenerate: float = Field(0.05, ge=0, le=1)
    """Maximum share of degenerate continuations of a setting above that of the unsteered model."""
    concept_texts: int = Field(64, ge=2, le=10**7)
    """Texts per pole in which methods find the concept."""
    screening_stems: int = Field(6, ge=1, le=10**7)
    """Validation stems on which all candidates are tried."""
    validation_stems: int = Field(16, ge=1, le=10**7)
    """Stems on which the settings of the best candidates are chosen."""
    test_stems: int = Field(32, ge=2, le=10**7)
    """Stems on which results are reported."""
    new_tokens: int | None = Field(None, ge=1, le=100_000)
    """Tokens of a continuation; null means 40, or 12 in the tiny world."""
    stem_tokens: int = Field(8, ge=1, le=100_000)
    """Tokens of a stem that is cut from a text; the tiny world's stems end before a word of the axis."""
    classifier_texts: int = Field(2000, ge=10, le=10**7)
    """Texts per pole for training the classifier; a file may have fewer, a data set of the hub may not."""
    accuracy_texts: int = Field(500, ge=10, le=10**7)
    """Texts per pole for testing the classifier; a file may have fewer, a data set of the hub may not."""

    @classmethod
    def figures(cls) -> Sequence[TaskFigure]:
        return [TaskFigure(figure.NAME, figure.TITLE, figure.points, figure.draw, figure.CAPTION)]

    @classmethod
    def tables(cls) -> Sequence[TaskTable]:
        from abench.report import TWO_WAY_TABLE

        return (TWO_WAY_TABLE,)

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._concepts(lm, ctx)
        return None

    def cost(self, setting: CostSetting) -> Cost:
        tiny = setting.data.source == "tinyworld"
        named = self.concepts or (tuple(AXES) if tiny else HUB_CONCEPTS)
        grid = Grid(len(named), self.candidates, len(self.strengths), self.screening_stems, len(LINES))
        return priced(setting, self._sizes(tiny=tiny), grid)

    def prepare(self, lm: LanguageModel, ctx: Context) -> Steered:
        """The stems with their unsteered continuations, and the methods that need no SAE."""
        concepts = self._concepts(lm, ctx)
        sizes = self._sizes(tiny=is_tiny(ctx)).limited(ctx.evaluation.limit)
        for kind, (used, wanted) in counted(concepts, sizes).items():
            ctx.used(Amount(kind, used, wanted))
        track = ctx.track(concepts, "two_way_steering: unsteered continuations", "concepts")
        searches = {each.name: self._search(each, concepts, lm, ctx) for each in track}
        baselines = {name: self._baseline(name, searches, lm, ctx) for name in LINES}
        ctx.measured("direction_range", max(each["range"][0] for each in baselines.values()))
        known = [each.accuracy.value for each in concepts if each.accuracy is not None]
        ctx.measured("reader_accuracy", min(known, default=None))
        ctx.measured("other_concepts", len(concepts) - 1)
        codes = {each.name: codes_of(lm, ctx.saes, each, ctx.site) for each in concepts}
        return Steered(searches, baselines, codes)

    def score(
        self, sae: SAE, prepared: Steered, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        track = ctx.track([*prepared.searches.values()], "two_way_steering: latents", "concepts")
        found = {
            search.concept.name: self._of_sae(search, sae, prepared.codes[search.concept.name](sae))
            for search in track
        }
        if not any(kinds["both"].tried for kinds in found.values()):
            raise Skip("no latent of this SAE differs between the texts of the two poles of any concept")
        methods: dict[str, dict[str, Any]] = {
            kind: _summary({name: kinds[kind] for name, kinds in found.items()}, ctx) for kind in _KINDS
        }
        both = methods["both"]
        scores = {
            "range": both["range"][0],
            "one_way": methods["one"]["range"][0],
            "pair": methods["pair"]["range"][0],
            "of_dim": both["range"][0] - prepared.baselines["dim"]["range"][0],
            **{name: both[name] for name in ("high", "low", "loss", "degenerate", "moved")},
        }
        every: dict[str, dict[str, Any]] = {**methods, **prepared.baselines}
        details = {
            "max_loss": self.max_loss,
            "max_degenerate": self.max_degenerate,
            "candidates": self.candidates,
            "unsteered": prepared.unsteered(),
            "readers": prepared.readers(),
            "methods": {
                name: {each: value for each, value in method.items() if each != "concepts"}
                for name, method in every.items()
            },
            "concepts": {
                name: {method: _shown(method, of["concepts"][name]) for method, of in every.items()}
                for name in found
            },
        }
        return scores, {"two_way": details}

    def _of_sae(self, search: Search, sae: SAE, codes: ContrastCodes) -> dict[Kind, Found]:
        lines, units = latents(sae, codes, self.candidates)
        movers = [*lines, *(each for each in units if each.latent not in {line.latent for line in lines})]
        places = {mover.latent: place for place, mover in enumerate(movers)}
        as_units = [places[each.latent] for each in units]
        return search.run(movers, {"both": range(len(lines)), "one": as_units, "pair": as_units})

    def _baseline(
        self, name: str, searches: Mapping[str, Search], lm: LanguageModel, ctx: Context
    ) -> dict[str, Any]:
        """The summary of a method that needs no SAE, from the cache if it is there."""
        spec = {
            "task": self.name,
            "version": self.version,
            "method": name,
            "options": self.model_dump(mode="json"),
            "inputs": dict(ctx.inputs),
            "site": ctx.site,
            "model": dict(ctx.model) or {"name": "unnamed"},
            "data": ctx.data.model_dump(mode="json"),
            "evaluation": ctx.evaluation.model_dump(mode="json"),
        }
        known: dict[str, Any] | None = ctx.kept.get(spec)
        if known is not None:
            return known
        found = {}
        for search in ctx.track([*searches.values()], f"two_way_steering: {name}", "concepts"):
            lines = LINES[name](lm, search.concept, ctx.site, self.candidates, ctx.evaluation.seed)
            found[search.concept.name] = search.run(lines, {"both": range(len(lines))})["both"]
        summary = _summary(found, ctx)
        ctx.kept.put(spec, summary)
        return summary

    def _search(
        self, concept: TwoPoles, concepts: Sequence[TwoPoles], lm: LanguageModel, ctx: Context
    ) -> Search:
        tokens = self._sizes(tiny=is_tiny(ctx)).new_tokens
        own: list[PoleReader] = [concept.reader]
        every = own + [each.reader for each in concepts if each is not concept]
        part = partial(Part.of, lm, ctx.site)
        return Search(
            concept,
            norm_of(lm, concept, ctx.site),
            part(concept.validation[: self.screening_stems], tokens, own),
            part(concept.validation, tokens, own),
            part(concept.test, tokens, every),
            tuple(sorted(set(self.strengths))),
            Limits(self.max_loss, self.max_degenerate),
        )

    def _sizes(self, *, tiny: bool) -> Sizes:
        return Sizes(
            self.concept_texts,
            self.validation_stems,
            self.test_stems,
            self.stem_tokens,
            self.new_tokens or (_TINY_TOKENS if tiny else _TOKENS),
            self.classifier_texts,
            self.accuracy_texts,
        )

    def _concepts(self, lm: LanguageModel, ctx: Context) -> list[TwoPoles]:
        """The concepts, read once; raises Skip for too few texts and UserError for those that are no use."""
        return ctx.once("concepts", partial(self._read, lm, ctx))

    def _read(self, lm: LanguageModel, ctx: Context) -> list[TwoPoles]:
        sizes = self._sizes(tiny=is_tiny(ctx)).limited(ctx.evaluation.limit)
        found: list[TwoPoles] = []
        for name in self.concepts or (tuple(AXES) if is_tiny(ctx) else HUB_CONCEPTS):
            if is_tiny(ctx) and file_at(name) is None and "/" not in name:
                found.append(axis_concept(name, sizes, seed=ctx.evaluation.seed))
            else:
                found += text_concepts(name, lm, ctx, sizes, self.columns, self.revisions)
        names = [each.name for each in found]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise UserError(f"two_way_steering: several concepts are named '{twice[0]}'; rename all but one")
        for each in found:
            lm.check_prompts([*each.validation, *each.test], max_new_tokens=sizes.new_tokens)
        return found


@dataclass(frozen=True, eq=False)
class Steered:
    """What all SAEs of a site share."""

    searches: Mapping[str, Search]
    """By the concept's name."""
    baselines: Mapping[str, dict[str, Any]]
    """The summary of each method that needs no SAE."""
    codes: Mapping[str, OfEach[ContrastCodes]]
    """The codes of each concept's texts, by the concept's name."""

    def unsteered(self) -> dict[str, float]:
        """The share of the positive pole without steering, by concept."""
        return {name: search.test.unsteered.share for name, search in self.searches.items()}

    def readers(self) -> dict[str, Any]:
        """How the poles of each concept are read, and how often that is right, if it can be wrong."""
        concepts = [search.concept for search in self.searches.values()]
        return {
            each.name: {
                "reader": each.reader.name,
                "poles": list(each.poles),
                **(
                    {}
                    if (known := each.accuracy) is None
                    else {"accuracy": [known.value, known.low, known.high, known.n]}
                ),
            }
            for each in concepts
        }


def _summary(found: Mapping[str, Found], ctx: Context) -> dict[str, Any]:
    """Means over concepts, and each concept's result, as plain JSON; ranges are [value, low, high, stems]."""
    import numpy as np

    names = [*found]
    plain = {
        name: each.plain([name, *(other for other in names if other != name)]) for name, each in found.items()
    }
    differences = [each.differences for each in found.values()]
    low, high = bootstrap(differences, seed=ctx.evaluation.seed)

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    return {
        "range": [mean([each.mean() for each in differences]), low, high, sum(map(len, differences))],
        "high": mean([each["high"]["share"] for each in plain.values()]),
        "low": mean([each["low"]["share"] for each in plain.values()]),
        "loss": mean([max(end["loss"] for end in _ends(each) if "loss" in end) for each in plain.values()]),
        "degenerate": mean([max(end["degenerate"] for end in _ends(each)) for each in plain.values()]),
        "moved": mean([each.get("moved", 0.0) for each in plain.values()]),
        "concepts": plain,
    }


def _shown(method: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """A concept's result for the cell; only the methods of the figure keep their curves."""
    if method in LINES and method not in _DRAWN:
        return {"range": plain["range"]}
    return {name: value for name, value in plain.items() if name != "curve" or method in _DRAWN}


def _ends(plain: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return plain["high"], plain["low"]
