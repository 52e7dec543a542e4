"""AutoInterp: can a judge say what a latent is about, and then tell where it is active?

After sae-bench's evaluation of the same name (Paulo et al. 2024, arXiv 2410.13928; the paper's Table 4): for
random latents that fire often enough, a judge explains the latent from windows in which it is active, and
then predicts from the explanation alone in which of some other windows it is active. A signed latent is
scored as a whole and for each of its poles by itself; sae-bench would see its positive codes only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from abench import (
    Amount,
    Context,
    Cost,
    CostSetting,
    Metric,
    Precondition,
    Scores,
    Skip,
    Task,
    UserError,
    View,
    Work,
)

from .._shared.asked_judge import AskedJudge
from .._shared.held_out import held_out_rows, too_little_text
from .._shared.labelled import is_tiny
from .._shared.priced import is_tiny as is_tiny_data
from .endpoint import OpenAIExplainer
from .features import lexical, oracle
from .firings import Firings, firings_of
from .judges import Explainer
from .notes import notes_on
from .sampling import Sampler, Sizes
from .scoring import ByPart, Scored
from .units import units_of
from .validation import validation

if TYPE_CHECKING:
    from abench import SAE, LanguageModel, OfEach

_NAMED = ("detection", "balanced", "main_pole", "other_pole", "explained", "both_explained")
_TOKENS_PER_QUESTION = 700
"""Of 15 windows of 21 tokens with their marks, and the question around them."""


class AutoInterp(AskedJudge, Task):
    """Can a judge explain a latent, and detect it by the explanation? As a whole, and for each pole."""

    name: ClassVar[str] = "autointerp"
    version: ClassVar[str] = "1"
    in_all: ClassVar[bool] = False
    views: ClassVar[tuple[View, ...]] = ("native", "split")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "detection",
            True,
            headline=True,
            description="share of windows predicted correctly, mean over latents, each as a whole: "
            "sae-bench's AutoInterp score",
            items="autointerp.latents.*.whole",
        ),
        Metric(
            "balanced",
            True,
            headline=True,
            description="the same with active and inactive windows weighted equally; 0.5 is chance",
            items="autointerp.latents.*.balanced",
        ),
        Metric(
            "main_pole",
            True,
            "main pole",
            headline=True,
            description="detection of the pole that fires more often, by itself; mean over latents",
        ),
        Metric(
            "other_pole",
            True,
            "other pole",
            headline=True,
            description="detection of the opposite pole, by itself; mean over latents that have one",
        ),
        Metric(
            "explained",
            True,
            headline=True,
            description="share of latents that are detected well enough as a whole (option explained_from)",
        ),
        Metric(
            "both_explained",
            True,
            "both poles",
            description="share of latents of which both poles are detected well enough, each by itself",
        ),
        Metric("latents", None, description="number of latents that were scored"),
        Metric("poles", None, description="number of poles that were scored"),
        Metric("unfit", None, description="share of drawn latents with too few disjoint windows for a score"),
    )
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "judge_accuracy",
            "the judge's accuracy on constructed latents",
            0.8,
            "It does not tell latents that are about something from latents about nothing.",
            metrics=_NAMED,
        ),
        Precondition(
            "main_poles",
            "the number of main poles that were scored",
            1,
            "No latent has a pole with enough disjoint windows.",
            metrics=("main_pole",),
        ),
        Precondition(
            "other_poles",
            "the number of latents whose other pole was scored",
            1,
            "The latents have one pole only.",
            metrics=("other_pole",),
        ),
    )
    """Half of the constructed latents are about nothing, so an accuracy of 0.5 is chance."""
    check_options: ClassVar[dict[str, Any]] = {"latents": 20, "validation": 8}

    latents: int = Field(100, ge=1, le=10**7)
    """Number of latents to explain; sae-bench's default is 1,000."""
    more_than: int = Field(15, ge=0, le=10**9)
    """Latents that fire on no more tokens than this count as dead and are not drawn."""
    judge: Literal["auto", "oracle", "openai", "lexical"] = "auto"
    """auto: the tiny world's own judge on the tiny world, otherwise a model behind an endpoint. `lexical`
    asks no model: it explains by the vocabulary of the windows."""
    validation: int = Field(120, ge=0, le=10**6)
    """Number of constructed latents on which the judge is tested; 0 skips the test."""
    explained_from: float = Field(0.9, gt=0, le=1)
    """Smallest detection of a latent that counts as explained: with 14 windows, at most one is wrong."""
    top_shown: int = Field(10, ge=1, le=1000)
    """Windows around the strongest codes from which a latent is explained."""
    weighted_shown: int = Field(5, ge=0, le=1000)
    """Further windows for the explanation, drawn in proportion to squared codes."""
    top_tested: int = Field(2, ge=1, le=1000)
    """Windows around the strongest codes on which the explanation is tested."""
    weighted_tested: int = Field(2, ge=0, le=1000)
    """Further windows for the test, drawn in proportion to squared codes."""
    inactive_tested: int = Field(10, ge=1, le=1000)
    """Random windows for the test in which the latent is not active."""
    around: int = Field(10, ge=0, le=10_000)
    """Tokens of a window on each side of the token by which it is chosen."""
    active_from: float = Field(0.01, ge=0, lt=1)
    """A token is active if its absolute code exceeds this share of the latent's largest one."""
    examples: int = Field(3, ge=0, le=1000)
    """Number of the best and of the worst detected latents that are stored with their explanations."""

    @classmethod
    def notes(cls, records: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        return notes_on(records)

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        judge = self._judge_name(tiny=is_tiny(ctx))
        if judge == "openai" and not self.judge_model:
            return (
                "it needs a judge: set its option judge_model to the name of an endpoint's model, or judge "
                "to 'lexical', which asks none"
            )
        if judge == "oracle" and not is_tiny(ctx):
            return "its judge 'oracle' knows only the tiny world's words: use judge 'openai' or 'lexical'"
        return too_little_text(lm, ctx)

    def cost(self, setting: CostSetting) -> Cost:
        rows = setting.held_out_rows()
        tokens = rows * setting.context_size
        asks = self._judge_name(tiny=is_tiny_data(setting)) == "openai"
        # How often latents fire is known after a first pass; the firings of those drawn come from a second.
        reading = Work(lower=2 * tokens, passes=2 * -(-rows // setting.evaluation.batch_size))
        return Cost(
            reading + Work(requests=2 * self.validation * asks),
            Work(encoded=2 * tokens, requests=6 * setting.limited(self.latents) * asks),
            assumes=(
                f"all latents have two poles, and a request has about {_TOKENS_PER_QUESTION} tokens"
                if asks
                else ""
            ),
        )

    def prepare(self, lm: LanguageModel, ctx: Context) -> Prepared:
        """The firings of the drawn latents of all SAEs, and the judge's accuracy."""
        judge = self._judge(ctx)
        sizes = Sizes(**{name: getattr(self, name) for name in Sizes.__dataclass_fields__})
        tested = (
            validation(judge, ctx, number=self.validation, sizes=sizes, explained_from=self.explained_from)
            if self.validation
            else None
        )
        ctx.measured("judge_accuracy", None if tested is None else tested["accuracy"][0])
        rows = held_out_rows(lm, ctx)
        found = firings_of(lm, rows, ctx, latents=self._wanted(ctx), more_than=self.more_than)
        return Prepared(found, Sampler(lm, rows, sizes), judge, tested)

    def score(
        self, sae: SAE, prepared: Prepared, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        firings = prepared.firings(sae)
        if not firings.drawn:
            raise Skip(f"none of its latents fires on more than {self.more_than:,} tokens of held-out text")
        ctx.used(Amount("latents", len(firings.drawn), self._wanted(ctx)))
        seed, drawn = ctx.evaluation.seed, firings.drawn
        units = [unit for latent in drawn for unit in units_of(latent, prepared.sampler, seed)]
        fit = [(unit, unit.examples) for unit in units if unit.examples is not None]
        of_parts = Counter(unit.part for unit, _ in fit)
        if not of_parts["whole"]:
            raise Skip(f"none of {len(drawn):,} drawn latents has enough disjoint windows of held-out text")
        answers = prepared.judge.answers([examples for _, examples in fit])
        read = [Scored.of(unit, answer) for (unit, _), answer in zip(fit, answers, strict=True)]
        parts = ByPart.of([each for each in read if each is not None])
        if not parts.whole:
            raise UserError(
                f"autointerp: the judge {prepared.judge.name} gave no readable answer on any of "
                f"{of_parts['whole']:,} latents: use another judge"
            )
        ctx.measured("main_poles", len(parts.main))
        ctx.measured("other_poles", len(parts.other))
        scores = parts.scores(self.explained_from) | {"unfit": 1 - of_parts["whole"] / len(drawn)}
        details = {
            "judge": prepared.judge.name,
            "validation": prepared.validation,
            "signed": firings.signed,
            "eligible": firings.eligible,
            "drawn": len(drawn),
            "fit": dict(of_parts),
            "tested": [self.top_tested + self.weighted_tested, self.inactive_tested],
            "invalid": read.count(None),
            "latents": parts.by_latent(),
            "examples": parts.examples(self.examples),
        }
        return scores, {"autointerp": details}

    def _wanted(self, ctx: Context) -> int:
        limit = ctx.evaluation.limit
        return self.latents if limit is None else min(self.latents, limit)

    def _judge_name(self, *, tiny: bool) -> str:
        return self.judge if self.judge != "auto" else "oracle" if tiny else "openai"

    def _judge(self, ctx: Context) -> Explainer:
        name = self._judge_name(tiny=is_tiny(ctx))
        if name != "openai":
            return oracle() if name == "oracle" else lexical()
        return OpenAIExplainer(self.endpoint(), ctx.kept, ctx.say)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all SAEs of a site share."""

    firings: OfEach[Firings]
    sampler: Sampler
    judge: Explainer
    validation: dict[str, Any] | None
