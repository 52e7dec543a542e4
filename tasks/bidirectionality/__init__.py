"""Bidirectionality of latents: are both signs of a latent about something, and about opposites?

For a sample of alive latents, a judge sees the texts in which each side is strongest (arXiv 2510.00404,
Table 2). A non-negative SAE has no negative codes; its negative side consists of the lowest pre-activations,
so that a latent of any SAE can be bidirectional, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    UserError,
    Work,
)
from abench.judges import (
    JudgeOption,
    OwnPoleJudge,
    PoleJudge,
    PoleVerdict,
    own_pole_judge,
    share,
)

from .._shared.asked_judge import AskedJudge
from .._shared.drawn import drawn
from .._shared.held_out import held_out_rows, too_little_text
from .._shared.label_options import LabelledData
from .._shared.labelled import is_tiny
from .._shared.priced import is_tiny as is_tiny_data
from .concepts import ConceptLatent, ConceptLatents, OwnConcept, judged, own_concepts
from .endpoint import OpenAIPoles
from .judges import KINDS, kappa
from .lexical import LexicalPoles
from .oracle import TinyWorldPoles
from .random_directions import counted, counts_of, random_directions
from .validation import validation

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, Excerpt, LanguageModel, LatentContexts, TaskFigure, TaskTable

_CANDIDATES = 8
"""Candidate latents per requested latent, because it is known only after the pass whether a latent fires."""
_SHOWN_CONTEXTS = 3
"""Contexts per side that are stored for the page."""


class Bidirectionality(AskedJudge, LabelledData, Task):
    """Are both signs of a latent about something? Decided by a judge that sees their strongest contexts."""

    name: ClassVar[str] = "bidirectionality"
    version: ClassVar[str] = "3"
    in_all: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("bidirectional", None, headline=True, description="share of latents with both sides coherent"),
        Metric("opposites", None, headline=True, description="share of latents whose sides are opposites"),
        Metric("unidirectional", None, headline=True, description="share of latents with one side coherent"),
        Metric("none", None, headline=True, description="share of latents with neither side coherent"),
        Metric("alive", True, description="share of latents that fire on the text"),
        Metric("latents", None, description="number of judged latents"),
    )
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "judge_accuracy",
            "the judge's accuracy on constructed latents",
            0.8,
            "Its verdicts do not tell two-sided, one-sided and structureless latents apart.",
            metrics=("bidirectional", "opposites", "unidirectional", "none"),
        ),
        Precondition(
            "opposites_accuracy",
            "the judge's accuracy in telling constructed opposites from other pairs of subjects",
            0.8,
            "It does not recognise opposites.",
            metrics=("opposites",),
        ),
    )
    """Not measured with `validation: 0`. For the first, a third is chance, and the paper reports 96 % for its
    judge (Table 5). With 20 % of errors, shares are off by up to 20 points, about as much as the paper's SAEs
    differ. For the second, a half is chance."""

    only_if_set: ClassVar[tuple[str, ...]] = ("columns", "concepts")

    latents: int = Field(100, ge=1, le=10**7)
    """Number of alive latents to judge."""
    concepts: Annotated[str | None, InputFile()] = None
    """A file of texts with the columns text, pole (or label) and concept: for each concept, the latent whose
    mean code differs most between the two poles is judged, in place of a sample of latents."""
    contexts: int = Field(8, ge=2, le=1000)
    """Contexts shown per side."""
    around: int = Field(12, ge=1, le=100_000)
    """Tokens shown before and after the strongest one."""
    judge: Annotated[str, JudgeOption("auto", "oracle", "openai", "lexical", of=OwnPoleJudge)] = "auto"
    """auto: the tiny world's own judge on the tiny world, otherwise a model behind an endpoint. `lexical`
    asks no model: it compares the embeddings of the words at the peaks, and cannot tell opposites. Or the
    name of a judge of your own."""
    judges: Annotated[
        tuple[str, ...], JudgeOption("oracle", "openai", "lexical", "openai:", of=OwnPoleJudge)
    ] = ()
    """Further judges, for agreement only: `oracle`, `lexical`, `openai`, `openai:MODEL` at the same address,
    or judges of your own."""
    validation: int = Field(120, ge=0, le=10**7)
    """Number of constructed latents on which the judge is tested; 0 skips the test."""
    random_directions: int = Field(100, ge=0, le=10**7, exclude=True)
    """Number of random directions that are judged as a baseline, once for all SAEs of a site, at most
    `latents`; 0 for none. It changes no score, so it is in no cell's key."""
    examples: int = Field(3, ge=0, le=1000)
    """Number of latents of each kind that are stored with their contexts."""

    @classmethod
    def figures(cls) -> Sequence[TaskFigure]:
        from abench.report import POLE_SHARES

        return (POLE_SHARES,)

    @classmethod
    def tables(cls) -> Sequence[TaskTable]:
        from abench.report import POLES_TABLE

        return (POLES_TABLE,)

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        for name in self._judges(ctx):
            kind, _, model = name.partition(":")
            if kind == "openai" and not (model or self.judge_model):
                return (
                    "it needs a judge: set its option judge_model to the name of an endpoint's model, or "
                    "judge to 'lexical', which asks none"
                )
            if kind == "oracle" and not is_tiny(ctx):
                return "its judge 'oracle' knows only the tiny world's texts: use judge 'openai' or 'lexical'"
        self._concepts(ctx)
        return too_little_text(lm, ctx)

    def _concepts(self, ctx: Context) -> list[OwnConcept]:
        """The concepts of the file, read once; empty without a file."""
        if self.concepts is None:
            return []
        read = partial(own_concepts, self.concepts, self.columns, limit=ctx.evaluation.limit)
        return ctx.once("concepts", read)

    def cost(self, setting: CostSetting) -> Cost:
        rows = setting.held_out_rows()
        tokens = rows * setting.context_size
        first = self.judge if self.judge != "auto" else "oracle" if is_tiny_data(setting) else "openai"
        asked = sum(name.partition(":")[0] == "openai" for name in (first, *self.judges))
        reading = Work(lower=tokens, passes=-(-rows // setting.evaluation.batch_size))
        if self._directions:  # centred at the mean of the first batch
            reading += Work(lower=min(rows, setting.evaluation.batch_size) * setting.context_size, passes=1)
        return Cost(
            reading + Work(requests=(self.validation + self._directions) * (first == "openai")),
            Work(encoded=tokens, requests=self.latents * asked),
        )

    def prepare(self, lm: LanguageModel, ctx: Context) -> ContextsToJudge:
        """The top contexts of all SAEs, from one pass, and the judge's accuracy."""
        from abench import top_contexts

        judge, *others = (self._judge(name, lm, ctx) for name in self._judges(ctx))
        tested = (
            validation(judge, ctx, number=self.validation, contexts=self.contexts, around=self.around)
            if self.validation
            else None
        )
        ctx.measured("judge_accuracy", None if tested is None else tested["accuracy"][0])
        ctx.measured("opposites_accuracy", None if tested is None else tested["opposites_accuracy"])
        chosen = ConceptLatents(self._concepts(ctx), lm, ctx) if self.concepts else None
        rows = held_out_rows(lm, ctx)
        baseline = self._baseline(lm, rows, ctx)
        with ctx.steps("bidirectionality: contexts of latents", len(rows), "rows") as steps:
            found = top_contexts(
                lm,
                rows,
                site=ctx.site,
                saes=(*ctx.saes, *baseline),
                batch_size=ctx.evaluation.batch_size,
                latents=lambda sae: self._searched(sae, chosen, ctx, baseline),
                most=None if chosen else self.latents,
                number=self.contexts,
                around=self.around,
                done=steps.advance_to,
            )
        random = [counted(judge, found(each).latents) for each in baseline]
        return ContextsToJudge(found, judge, tuple(others), tested, chosen, random[0] if random else None)

    def _baseline(self, lm: LanguageModel, rows: Tensor, ctx: Context) -> tuple[SAE, ...]:
        """The random directions as an SAE; none if the options ask for none."""
        from abench import as_sae

        if not (number := self._directions):
            return ()
        first = rows[: ctx.evaluation.batch_size]
        return (as_sae(random_directions(number, lm, first, ctx.site, seed=ctx.evaluation.seed)),)

    @property
    def _directions(self) -> int:
        return min(self.random_directions, self.latents)

    def _searched(
        self, sae: SAE, chosen: ConceptLatents | None, ctx: Context, baseline: Sequence[SAE]
    ) -> list[int]:
        """The latents whose contexts are searched: those of the concepts, or candidates of a sample."""
        if sae in baseline:
            return list(range(sae.cfg.d_sae))
        if chosen:
            return [*dict.fromkeys(each.latent for each in chosen.of(sae))]
        return drawn(sae.W_dec, ctx.evaluation.seed)[: _CANDIDATES * self.latents]

    def score(
        self, sae: SAE, prepared: ContextsToJudge, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        top = prepared.contexts(sae)
        if not top.negative_known:
            raise Skip(
                "it has no negative codes, and its class does not show the pre-activations that would take "
                "their place"
            )
        if not top.latents:
            which = "drawn latents" if prepared.chosen is None else "concepts' latents"
            raise Skip(f"none of the {which} fires on the held-out text")
        of_concepts = prepared.chosen.of(sae) if prepared.chosen else []
        wanted = self.latents if ctx.evaluation.limit is None else len(top.latents)
        if prepared.chosen:
            wanted = len({each.latent for each in of_concepts})
        ctx.used(Amount("latents", len(top.latents), wanted))
        verdicts = prepared.judge.judge(top.latents)
        kinds = [verdict.kind for verdict in verdicts]
        valid = len(kinds) - kinds.count("invalid")
        if not valid:
            # A share of no verdicts is undefined.
            raise UserError(
                f"bidirectionality: the judge {prepared.judge.name} gave no readable answer on any "
                f"of {len(kinds)} latents: use another judge"
            )
        shares = {kind: share(count, valid) for kind, count in counts_of(kinds).items()}
        scores = {kind: each.value for kind, each in shares.items()}
        details = {
            "judge": prepared.judge.name,
            "shares": {kind: [s.value, s.low, s.high, s.n] for kind, s in shares.items()},
            "invalid": len(kinds) - valid,
            "signed": top.signed,
            "alive": [top.alive, top.width],
            "contexts": self.contexts,
            "validation": prepared.validation,
            "agreement": [_agreement(other, top.latents, verdicts) for other in prepared.others],
            "random": prepared.random,
            "verdicts": {str(each.latent): kind for each, kind in zip(top.latents, kinds, strict=True)},
            "examples": list(_examples(top.latents, verdicts, self.examples, of_concepts)),
        }
        if of_concepts:
            by_latent = {each.latent: kind for each, kind in zip(top.latents, kinds, strict=True)}
            details["concepts"] = judged(of_concepts, by_latent)
        return scores | {"alive": top.alive / top.width, "latents": valid}, {"poles": details}

    def _judges(self, ctx: Context) -> tuple[str, ...]:
        """The judge whose verdicts count, then the others."""
        first = self.judge if self.judge != "auto" else "oracle" if is_tiny(ctx) else "openai"
        return (first, *self.judges)

    def _judge(self, name: str, lm: LanguageModel, ctx: Context) -> PoleJudge:
        kind, _, model = name.partition(":")
        if kind == "oracle":
            return TinyWorldPoles()
        if kind == "lexical":
            return LexicalPoles.of(lm, ctx)
        if kind != "openai":
            return own_pole_judge(name)
        return OpenAIPoles(self.endpoint(model), ctx.kept, ctx.say)


@dataclass(frozen=True, eq=False)
class ContextsToJudge:
    """The contexts and judges that all SAEs of a site share."""

    contexts: Any
    """A function: `contexts(sae)` returns an SAE's TopContexts."""
    judge: PoleJudge
    others: tuple[PoleJudge, ...]
    validation: dict[str, Any] | None
    chosen: ConceptLatents | None
    """The latents of the user's concepts; None for a sample of latents."""
    random: dict[str, Any] | None
    """The judge's verdicts on random directions, each [share, low, high, n]; None if there are none."""


def _agreement(
    other: PoleJudge, latents: Sequence[LatentContexts], verdicts: Sequence[PoleVerdict]
) -> dict[str, Any]:
    """Cohen's kappa with another judge, over the latents on which both gave a verdict."""
    pairs = [
        (first.kind, second.kind)
        for first, second in zip(verdicts, other.judge(latents), strict=True)
        if "invalid" not in (first.kind, second.kind)
    ]
    found = kappa([a for a, _ in pairs], [b for _, b in pairs])
    return {"judge": other.name, "n": len(pairs)} | ({} if found is None else {"kappa": found})


def _examples(
    latents: Sequence[LatentContexts],
    verdicts: Sequence[PoleVerdict],
    each: int,
    concepts: Sequence[ConceptLatent],
) -> Any:
    """The first `each` latents of each kind, with their contexts; those of concepts name their concepts."""
    for kind in KINDS:
        mine = [pair for pair in zip(latents, verdicts, strict=True) if pair[1].kind == kind]
        for latent, verdict in mine[:each]:
            named = [
                f"{c.concept} ({c.positive} / {c.negative})" for c in concepts if c.latent == latent.latent
            ]
            yield {
                "latent": latent.latent,
                "kind": kind,
                **({"concepts": named} if named else {}),
                "about": [verdict.positive, verdict.negative],
                "positive": [_plain(excerpt) for excerpt in latent.positive[:_SHOWN_CONTEXTS]],
                "negative": [_plain(excerpt) for excerpt in latent.negative[:_SHOWN_CONTEXTS]],
            }


def _plain(excerpt: Excerpt) -> dict[str, Any]:
    values = [float(f"{value:.3g}") for value in excerpt.values]
    return {"tokens": list(excerpt.tokens), "values": values, "peak": excerpt.peak}
