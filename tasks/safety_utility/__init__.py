"""Safety against utility under steering: the paper's Table 1.

One latent of each SAE is clamped, or a difference in means (DiM) is added or removed, and the model answers
harmful requests, harmless requests and questions. Every method has the same budget: as many candidates, each
screened on a few validation requests, and the same strengths for the best of them. The setting is chosen on
validation data by two rules, which stand side by side. The paper's: the highest safety whose utility is at
most `max_loss` below the unsteered model's; ties go to the fewest degenerate replies. `coherent`: the same
among the settings whose degenerate replies are at most `max_degenerate` more than the unsteered model's. A
reply that makes no sense does no harm either, so the first rule is won by a model that stammers. What was
tried, and every choice, is stored in the cell. The paper leaves latent, coefficient, judge and shots open
(arXiv 2510.00404, Table 1).

The unsteered model, DiM and random directions do not depend on SAEs: they are measured once per model, and
once per model and site, and cached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from abench import Context, Cost, CostSetting, Metric, Precondition, Scores, Skip, Task, UserError
from abench.judges import Judge

from .._shared.choices import has_chat
from .._shared.labelled import is_tiny
from .controls import control_of
from .cost import Steered, priced
from .declared import CHANGES, METRICS, PREFIX, RULES, SHARES, VALID_IF
from .judging import judge_of
from .lm_eval_tasks import MMLU, QuestionPart, Questions
from .measure import SteeringExam
from .methods import (
    Contrast,
    directions,
    latents,
    random_latents_of,
    random_pushes,
    refusal_gradient,
    refusing,
)
from .options import SteeringOptions
from .requests import Requests, prompts, requests
from .rules import Bounds, is_coherent
from .search import Budget, OutcomeJson, Search, plain
from .utility import Utility

if TYPE_CHECKING:
    import torch

    from abench import SAE, ContrastCodes, LanguageModel, OfEach, TaskFigure, TaskTable


class SafetyUtility(SteeringOptions, Task):
    """Safety on harmful requests against utility on questions, under steering by one latent."""

    name: ClassVar[str] = "safety_utility"
    version: ClassVar[str] = "5"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    valid_if: ClassVar[tuple[Precondition, ...]] = VALID_IF
    in_all: ClassVar[bool] = False
    check_options: ClassVar[Mapping[str, Any]] = {
        "strengths": (0.5,),
        "candidates": 3,
        "screen_requests": 4,
        "finalists": 1,
        "finer": 1,
        "controls": 1,
        "test_requests": 8,
        "validation_requests": 8,
    }

    def cost(self, setting: CostSetting) -> Cost:
        return priced(setting, Steered.of(self))

    @classmethod
    def figures(cls) -> Sequence[TaskFigure]:
        from abench.report import TRADEOFF

        return (TRADEOFF,)

    @classmethod
    def tables(cls) -> Sequence[TaskTable]:
        from abench.report import SAFETY_TABLE

        return (SAFETY_TABLE,)

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._given(lm, ctx)
        return None

    def _given(self, lm: LanguageModel, ctx: Context) -> Given:
        """Requests, questions and judge; raises Skip for too few of them, UserError if they are unusable."""
        return ctx.once("given", partial(self._read, lm, ctx))

    def _read(self, lm: LanguageModel, ctx: Context) -> Given:
        judge = judge_of(self, ctx)
        asked = {
            part: requests(
                ctx,
                part,
                number,
                harmful=self.harmful,
                harmless=self.harmless,
                revisions=self.revisions,
            )
            for part, number in self._numbers().items()
        }
        length = min(self.max_new_tokens, 24) if is_tiny(ctx) else self.max_new_tokens
        validation, test = (
            SteeringExam(lm, ctx, utility, asked[part], judge, length, examples, with_harmless=part == "test")
            for part, utility, examples in (
                ("validation", self._utility(lm, ctx, "validation"), 0),
                ("test", self._utility(lm, ctx, "test"), self.examples),
            )
        )
        for bench in (validation, test):
            bench.check()
            bench.utility.amount()
        return Given(asked["train"], validation, test)

    def prepare(self, lm: LanguageModel, ctx: Context) -> SteeringBaselines:
        """Prompts and questions, with the unsteered model and DiM, measured unless they are cached."""
        from abench import contrast_codes

        train, validation, test = self._given(lm, ctx)
        parts = {"train": train, "validation": validation.requests, "test": test.requests}
        for part, number in self._numbers().items():
            ctx.used(parts[part].amount(part, number, ctx))
        for bench in (validation, test):
            ctx.used(bench.utility.amount())
        contrast = Contrast(prompts(lm, ctx, train.harmful), prompts(lm, ctx, train.harmless))
        shared = self._spec(ctx, test.judge)
        original = {
            part: _kept(ctx, {**shared, "method": "original", "part": part}, partial(_unsteered, bench))
            for part, bench in (("validation", validation), ("test", test))
        }
        ctx.say(_told(lm, original["test"]))
        method = directions(lm, contrast, ctx.site, self.candidates)
        search = Search(validation, test, original, self._budget, self._bounds)
        at_site = {**shared, "site": ctx.site}
        dim = _kept(ctx, {**at_site, "method": "dim"}, partial(search.of, method))
        random = random_pushes(lm.d_model, self.controls, norm=method.norm, seed=ctx.evaluation.seed)
        pushed = _kept(
            ctx, {**at_site, "method": "random direction"}, partial(control_of, search, dim, random)
        )
        chance = test.utility.chance()
        ctx.measured("utility_above_chance", _above_chance(original["test"]["utility"], chance))
        ctx.measured("refusals", _most_refused(original["validation"], dim, self._bounds))
        objective = refusing(tiny=is_tiny(ctx), chat=has_chat(lm))
        gradient = refusal_gradient(lm, contrast, ctx.site, objective)
        shown = {"utility_task": test.utility.name, "chance": chance, "dim": dim, "random_direction": pushed}
        codes = contrast_codes(lm, ctx.saes, contrast.positive, contrast.negative, ctx.site)
        return SteeringBaselines(codes, search, shown, gradient, method.norm)

    def score(
        self, sae: SAE, prepared: SteeringBaselines, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        search, codes = prepared.search, prepared.codes(sae)
        common: dict[str, Any] = {"norm": prepared.norm, "keep_error": self.keep_error}
        method = latents(sae, codes, self.candidates, gradient=prepared.gradient, **common)
        if not method.candidates:
            raise Skip("no latent of this SAE distinguishes harmful prompts from harmless ones")
        steer = search.of(method)
        random = random_latents_of(sae, codes, self.controls, seed=ctx.evaluation.seed, **common)
        original = search.original["test"]
        scores: dict[str, float] = {}
        for rule in RULES:
            row, start = steer["rules"][rule]["chosen"], PREFIX[rule]
            scores |= {f"{start}{name}": row[name][0] for name in SHARES}
            scores |= {f"{start}{name}_change": row[name][0] - original[name][0] for name in CHANGES}
        details = {
            "judge": search.test.judge.name,
            "max_loss": self.max_loss,
            "max_degenerate": self.max_degenerate,
            "original": original,
            "original_validation": search.original["validation"],
            **prepared.shown,
            "sae": steer,
            "random_latent": control_of(search, steer, random),
        }
        return scores, {"steering": details}

    @property
    def _budget(self) -> Budget:
        return Budget(self.strengths, self.screen_requests, self.finalists, self.finer)

    @property
    def _bounds(self) -> Bounds:
        return Bounds(self.max_loss, self.max_degenerate)

    def _numbers(self) -> dict[Any, int]:
        return {
            "train": self.concept_prompts,
            "validation": self.validation_requests,
            "test": self.test_requests,
        }

    def _utility(self, lm: LanguageModel, ctx: Context, part: QuestionPart) -> Utility:
        number = self.validation_questions if part == "validation" else self.test_questions
        limits = [each for each in (number, ctx.evaluation.limit) if each is not None]
        most = min(limits, default=None)
        if is_tiny(ctx) and self.utility_task is None:
            if self.utility_data is not None:
                raise UserError(
                    "safety_utility: the option utility_data has no effect on the tiny world's own "
                    "questions: leave it out, or name the questions' task (utility_task)"
                )
            return Utility(lm, ctx, part, most)
        source = Questions(self.utility_task or "mmlu", self.utility_data, self.revisions.get(MMLU))
        return Utility(lm, ctx, part, most, self.shots, source)

    def _spec(self, ctx: Context, judge: Judge) -> dict[str, Any]:
        """Everything that can change the results of the unsteered model or of DiM."""
        options = self.model_dump(mode="json", exclude={"keep_error", "judge", "judge_key"})
        return {
            "task": self.name,
            "version": self.version,
            "options": options,
            "inputs": dict(ctx.inputs),
            "judge": judge.spec(),
            "model": dict(ctx.model) or {"name": "unnamed"},
            "data": ctx.data.model_dump(mode="json"),
            "evaluation": ctx.evaluation.model_dump(mode="json"),
        }


class Given(NamedTuple):
    """The data that are read before the model runs."""

    train: Requests
    validation: SteeringExam
    test: SteeringExam


@dataclass(frozen=True, eq=False)
class SteeringBaselines:
    """The data and baselines that all SAEs of a site share."""

    codes: OfEach[ContrastCodes]
    """The codes of the harmful and the harmless prompts."""
    search: Search
    shown: dict[str, Any]
    """What all cells of the site store: DiM, random directions, and what utility is."""
    gradient: torch.Tensor
    """The gradient towards refusal at the site, [d_model]."""
    norm: float
    """Mean norm of the residual stream."""

    @property
    def original(self) -> dict[str, OutcomeJson]:
        """Outcomes of the unsteered model on both parts."""
        return self.search.original

    @property
    def dim(self) -> dict[str, Any]:
        """What was tried with DiM, and what was chosen."""
        found: dict[str, Any] = self.shown["dim"]
        return found


def _unsteered(bench: SteeringExam) -> OutcomeJson:
    row = plain(bench, None)
    if row is None:
        raise UserError(f"safety_utility: the logits of {bench.lm.name} are not finite even without steering")
    return row


def _above_chance(utility: list[float], chance: float) -> float:
    """By how many standard errors of guessing an accuracy is above that of guessing.

    Without choices to guess among, the accuracy of guessing is 0, and one correct answer is above it.
    """
    accuracy, _, _, questions = utility
    spread = max(chance * (1 - chance), 1 / (16 * questions))
    return (accuracy - chance) / math.sqrt(spread / questions)


def _most_refused(unsteered: OutcomeJson, dim: Mapping[str, Any], bounds: Bounds) -> float:
    """The largest share of refusals without steering, and with DiM where replies do not fall apart."""
    rows = [row for row in dim["settings"] if "refusal" in row and is_coherent(row, unsteered, bounds)]
    return max(float(row["refusal"][0]) for row in (unsteered, *rows))


def _kept(ctx: Context, spec: dict[str, Any], make: Callable[[], Any]) -> Any:
    value = ctx.kept.get(spec)
    if value is None:
        value = make()
        ctx.kept.put(spec, value)
    return value


def _told(lm: LanguageModel, row: OutcomeJson) -> str:
    shares = {name: f"{100 * row[name][0]:.1f} %" for name in ("utility", "safety", "over_refusal")}
    return (
        f"{lm.name} unsteered: utility {shares['utility']}, safety {shares['safety']}, "
        f"over-refusal {shares['over_refusal']}"
    )
