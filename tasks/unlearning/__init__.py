"""Unlearning: does clamping a few latents make a model forget one subject and nothing else?

This is sae-bench's evaluation (after Farrell, Lau and Conmy, 2024), for any model and for signed latents.
Latents are selected if they fire often on text about the subject and rarely on other text. Where a selected
latent fires, its code (in units of the residual stream) is set to a value on the other side of zero; the
reconstruction error is kept. The score is the share of known questions on the subject that the model answers
incorrectly at the best setting, among the settings that keep 99 % of the answers on other subjects.

Signed latents. *Native*: the unit is a latent; it fires where its code is not 0, and is clamped there to
−sign(code)·m, opposite to the pole that fired. *Split*: the unit is a pole; its rate counts only the codes on
its side, and only those are clamped. Both views are sae-bench's rule where codes are never negative, and
neither changes when a latent's sign is flipped in encoder and decoder. If a latent has the subject on one
pole and something common on the other, it is useless as a whole, but its one pole is useful; this is the
difference between the two views. A code of −m asserts the other pole, which may have a meaning for a signed
latent, so setting codes to 0 is scored too (`unlearning_score_ablation`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

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
    UserError,
    View,
)

from .._shared.choices import (
    PLAIN,
    TINY,
    ChoiceQuestion,
    Form,
    asked,
    chat_form,
    has_chat,
    known,
    letter_tokens,
)
from .._shared.labelled import is_tiny
from .._shared.revisions import HubData
from .clamp import KnownBatch, Latents, accuracies, select
from .control import lost_without_tokens
from .cost import ClampedQuestions, priced
from .score import Setting, summary
from .texts import (
    REPOSITORIES,
    forget_documents,
    packed_rows,
    questions,
    retain_documents,
)

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, LanguageModel, PoleRates

Rates: TypeAlias = "Callable[[Any], PoleRates]"
Text: TypeAlias = Literal["text to forget", "text to retain"]
_TEXTS: tuple[Text, ...] = ("text to forget", "text to retain")


class Unlearning(HubData, Task):
    """Does clamping a few latents make a model forget one subject while it keeps the others?"""

    name: ClassVar[str] = "unlearning"
    version: ClassVar[str] = "3"
    views: ClassVar[tuple[View, ...]] = ("native", "split")
    repositories: ClassVar[tuple[str, ...]] = REPOSITORIES
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "unlearning_score",
            True,
            "unlearning",
            headline=True,
            paper="1 - score",
            description="1 − lowest accuracy on the subject to forget, among settings that keep the others",
        ),
        Metric(
            "unlearning_score_ablation",
            True,
            "unlearning (0)",
            description="the same with the latents set to 0 instead of clamped beyond it",
        ),
        Metric(
            "forget_accuracy_any",
            False,
            "forget acc.",
            description="lowest accuracy on the subject to forget at any setting, regardless of side effects",
        ),
        Metric(
            "side_effect_accuracy",
            True,
            "retain acc.",
            description="accuracy on the other subjects at the scored setting (1 if there is none)",
        ),
        Metric("forget_questions", None, "questions", description="known questions on the subject to forget"),
        Metric("retain_questions", None, "retain questions", description="known questions on the others"),
    )
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "read_from_questions",
            "the share of known questions on the subject that fail, without any SAE, when the residual "
            "stream at their tokens is replaced by its mean,",
            0.5,
            "The model has read the rest of its knowledge from the questions before this site, so no latent "
            "that fires at their tokens can remove it.",
            metrics=(
                *("unlearning_score", "unlearning_score_ablation"),
                *("forget_accuracy_any", "side_effect_accuracy"),
            ),
        ),
    )
    """The score cannot be much above this share, which is measured on the questions themselves. Half is our
    choice: below it, most of the knowledge to forget is out of reach of the latents of the subject."""
    # Latents are clamped to sae-bench's fixed lengths; ablation to 0 does not depend on a length.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(
        {"unlearning_score", "forget_accuracy_any", "side_effect_accuracy"}
    )

    retain_thresholds: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.001, 0.01), min_length=1)
    """Latents that fire on at least this share of the other text's tokens are not clamped."""
    n_features: tuple[Annotated[int, Field(ge=1, le=10**7)], ...] = Field((10, 20), min_length=1)
    """Numbers of latents to clamp."""
    multipliers: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field((25, 50, 100, 200), min_length=1)
    """Distances beyond zero to which latents are clamped, in units of the residual stream."""
    kept: float = Field(0.99, ge=0, le=1)
    """Minimum accuracy on the other subjects that a setting must keep."""
    dataset_size: int = Field(1024, ge=1, le=10**7)
    """Maximum number of rows for firing rates, and of texts on the subject from which rows are drawn."""
    seq_len: int = Field(1024, ge=8, le=10**7)
    """Tokens per row; at most the model's context."""
    retain_subjects: tuple[str, ...] | None = Field(None, min_length=1)
    """Subjects to keep (of MMLU, or of the tiny world); null means sae-bench's four, or all others."""
    forget_text: Annotated[str | None, InputFile()] = None
    """File with the text to forget (.jsonl with a column text, .txt, …), in place of the hub's corpus."""
    prompt: Literal["auto", "chat", "plain"] = "auto"
    """Prompt format of questions; auto: a chat if the tokenizer has a chat template."""
    orders: int = Field(24, ge=1, le=24)
    """Orders of the choices in which the model must be correct for a question to count as known."""
    min_questions: int = Field(10, ge=1, le=10**7)
    """Minimum number of known questions for a score, on the subject to forget and on the others."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        for text in _TEXTS:
            self._rows(text, lm, ctx)
        self._known_questions(lm, ctx)
        return None

    def cost(self, setting: CostSetting) -> Cost:
        clamped = len(self.retain_thresholds) * len(self.n_features) * (1 + len(self.multipliers))
        rows = ClampedQuestions(self.orders, clamped, self.dataset_size, self.seq_len, self.retain_subjects)
        return priced(setting, rows)

    def prepare(self, lm: LanguageModel, ctx: Context) -> ForgettingTest:
        """Known questions with their residual stream, and firing rates of all SAEs on both texts."""
        form, (forgotten, retained) = self._form(lm, ctx), self._known_questions(lm, ctx)
        every = [*forgotten, *retained]
        ctx.used(Amount("known questions", len(every), len(every)))
        batches = self._known_batches(every, form, len(forgotten), lm, ctx)
        letters = letter_tokens(lm, form, form.write(every[0]))
        ctx.measured("read_from_questions", lost_without_tokens(lm, ctx.site, batches, letters))
        return ForgettingTest(
            batches=batches,
            letters=letters,
            forget=self._rates("text to forget", lm, ctx),
            retain=self._rates("text to retain", lm, ctx),
            forget_questions=len(forgotten),
            retain_questions=len(retained),
        )

    def _known_questions(
        self, lm: LanguageModel, ctx: Context
    ) -> tuple[list[ChoiceQuestion], list[ChoiceQuestion]]:
        """Known questions on the subject to forget and on the others; raises Skip for too few."""
        return ctx.once("known", partial(self._asked, lm, ctx))

    def _asked(self, lm: LanguageModel, ctx: Context) -> tuple[list[ChoiceQuestion], list[ChoiceQuestion]]:
        form, found = self._form(lm, ctx), questions(ctx, self.retain_subjects, self.revisions)
        subjects = {subject: self._known_of(subject, each, form, lm, ctx) for subject, each in found.items()}
        ctx.say(_told(lm, found, subjects))
        forget = next(iter(found))
        retained = [question for subject in subjects for question in subjects[subject] if subject != forget]
        self._check_enough(lm, ctx, forget, len(subjects[forget]), len(retained))
        return subjects[forget], retained

    def _known_of(
        self,
        subject: str,
        every: tuple[ChoiceQuestion, ...],
        form: Form,
        lm: LanguageModel,
        ctx: Context,
    ) -> list[ChoiceQuestion]:
        with ctx.steps(f"unlearning: questions on {subject}", len(every), "questions") as steps:
            found = known(lm, every, form, orders=self.orders, done=steps.advance_to)
        return [every[number] for number in found]

    def score(
        self, sae: SAE, prepared: ForgettingTest, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        chosen = self._latents(sae, prepared)
        multipliers = [0.0, *dict.fromkeys(map(float, self.multipliers))]
        title = "unlearning: answers with clamped latents"
        with ctx.steps(title, len(prepared.batches), "batches") as steps:
            right = accuracies(
                lm,
                sae,
                ctx.site,
                prepared.batches,
                prepared.letters,
                clamped=list(dict.fromkeys(chosen.values())),
                multipliers=multipliers,
                done=steps.advance_to,
            )
        settings = [
            Setting(threshold, number, m, len(latents), right[latents, m])
            for (threshold, number), latents in chosen.items()
            for m in multipliers
        ]
        scores = summary(settings, kept=self.kept) | {
            "forget_questions": float(prepared.forget_questions),
            "retain_questions": float(prepared.retain_questions),
        }
        return scores, {"settings": [setting.plain() for setting in settings]}

    def _form(self, lm: LanguageModel, ctx: Context) -> Form:
        if is_tiny(ctx):
            return TINY
        if self.prompt == "chat" and not has_chat(lm):
            raise UserError(f"unlearning: the tokenizer of {lm.name} has no chat template; set prompt=plain")
        return chat_form(lm) if self.prompt != "plain" and has_chat(lm) else PLAIN

    def _rates(self, text: Text, lm: LanguageModel, ctx: Context) -> Rates:
        from abench import firing_rates

        rows = self._rows(text, lm, ctx)
        ctx.used(Amount(f"rows of the {text}", len(rows), self._wanted(ctx)))
        with ctx.steps(f"unlearning: reading the {text}", len(rows), "rows") as steps:
            return firing_rates(lm, rows, site=ctx.site, saes=ctx.saes, done=steps.advance_to)

    def _known_batches(
        self, every: Sequence[ChoiceQuestion], form: Form, forget: int, lm: LanguageModel, ctx: Context
    ) -> list[KnownBatch]:
        found: list[KnownBatch] = []
        with ctx.steps("unlearning: reading known questions", len(every), "questions") as steps:
            for batch in _read_batches(lm, ctx.site, every, form, forget):
                found.append(batch)
                steps.advance_to(sum(len(each.answers) for each in found))
        return found

    def _wanted(self, ctx: Context) -> int:
        limit = ctx.evaluation.limit
        return self.dataset_size if limit is None else min(self.dataset_size, limit)

    def _rows(self, text: Text, lm: LanguageModel, ctx: Context) -> Tensor:
        """Rows of tokens [rows, context] of one of the texts; raises Skip if it does not fill one row."""

        def read() -> Tensor:
            if text == "text to forget":
                documents = forget_documents(ctx, self.forget_text, self.revisions)
                texts = self.dataset_size
            else:
                documents = retain_documents(ctx, self.revisions)
                texts = len(documents)
            return packed_rows(
                lm,
                documents,
                texts=texts,
                rows=self._wanted(ctx),
                context=self._context(lm, ctx),
                seed=ctx.evaluation.seed,
                what=text,
            )

        return ctx.once(text, read)

    def _context(self, lm: LanguageModel, ctx: Context) -> int:
        # The tiny world's model does not work beyond the row length it was trained on.
        longest = ctx.context_size if is_tiny(ctx) else lm.max_context
        return min(self.seq_len, longest or self.seq_len)

    def _latents(self, sae: SAE, prepared: ForgettingTest) -> dict[tuple[float, int], Latents]:
        """(Retain threshold, number of latents) -> the latents to clamp."""
        from abench import latent_directions

        forget, retain = (_firing(each(sae)) for each in (prepared.forget, prepared.retain))
        decoder = latent_directions(sae)
        return {
            (threshold, number): select(forget, retain, decoder, threshold=threshold, number=number)
            for threshold in self.retain_thresholds
            for number in self.n_features
        }

    def _check_enough(self, lm: LanguageModel, ctx: Context, subject: str, forget: int, retain: int) -> None:
        least = 1 if ctx.evaluation.limit is not None else self.min_questions
        for count, what in ((forget, f"questions on {subject}"), (retain, "questions on other subjects")):
            if count < least:
                raise Skip(
                    f"{lm.name} knows {count or 'none'} of the {what} in all orders of their choices; "
                    f"a score needs at least {least}"
                )


@dataclass(frozen=True)
class ForgettingTest:
    """The questions and firing rates that all SAEs of a site share."""

    batches: list[KnownBatch]
    letters: Tensor
    """Ids of the tokens for the four choices, [4, ways]."""
    forget: Rates
    retain: Rates
    forget_questions: int
    retain_questions: int


def _firing(rates: PoleRates) -> Tensor:
    """Share of tokens at which a latent is not 0, [latents]: the sum over its two poles."""
    return rates.positive + rates.negative


def _told(
    lm: LanguageModel, found: dict[str, tuple[ChoiceQuestion, ...]], subjects: dict[str, list[ChoiceQuestion]]
) -> str:
    counts = [f"{len(subjects[subject])} of {len(each)} on {subject}" for subject, each in found.items()]
    return f"{lm.name} knows {', '.join(counts)}"


def _read_batches(
    lm: LanguageModel, site: str, every: Sequence[ChoiceQuestion], form: Form, forget: int
) -> Iterator[KnownBatch]:
    """The questions with their residual stream; the first `forget` of them are on the subject to forget."""
    import torch

    for batch in asked(lm, every, form):
        yield KnownBatch(
            tokens=batch.tokens,
            last=batch.last,
            residual=lm.residual(batch.tokens, site).cpu(),
            answers=torch.tensor([every[number].answer for number in batch.numbers]),
            forget=torch.tensor(batch.numbers) < forget,
        )
