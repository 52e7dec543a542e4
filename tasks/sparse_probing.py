"""Sparse probing: how well a few latents alone separate a class of texts from the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from abench import Context, Cost, CostSetting, InputFile, Metric, Parts, Precondition, Scores, Task, Work

from ._shared.data_sets import DataSets, usable_data_sets
from ._shared.label_options import LabelledData
from ._shared.labelled import TINY_CLASSES, Labelled, is_tiny, labelled, probing_data_sets
from ._shared.labelled_files import file_of
from ._shared.labelled_hub import REPOSITORIES
from ._shared.priced import LONG_TEXTS, classes_of, limited_texts, text_tokens
from ._shared.probes import Columns, Problem, best_columns, held_out_accuracy, one_against_rest
from ._shared.revisions import HubData

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, LanguageModel, PoleCodes, Pooled

K = (1, 2, 5)
"""Numbers of latents per probe, as in sae-bench."""

_HUB_SETS = (
    *(f"LabHC/bias_in_bios_class_set{number}" for number in (1, 2, 3)),
    *("canrager/amazon_reviews_mcauley_1and5", "canrager/amazon_reviews_mcauley_1and5_sentiment"),
    *("codeparrot/github-code", "fancyzhx/ag_news", "Helsinki-NLP/europarl"),
)
"""sae-bench's data sets, named here because a price must not import sae-bench."""
_STEPS_PER_FIT = 20
"""Iterations of a logistic regression's solver."""

_HUB_TEXTS, _TINY_TEXTS = (4000, 1000), (400, 200)
"""Texts for fitting and testing a probe: sae-bench's numbers, and fewer for a fast run on the tiny world."""


def _metrics() -> tuple[Metric, ...]:
    sae = [
        Metric(
            f"sae_top_{k}_test_accuracy",
            True,
            f"probing@{k}",
            headline=k == 1,
            paper="score" if k == 1 else None,
            description=f"accuracy of a logistic regression on the {k} latents whose means differ most",
            items=f"datasets.*.sae_top_{k}_test_accuracy",
        )
        for k in K
    ]
    llm = [
        Metric(
            f"llm_top_{k}_test_accuracy",
            None,
            f"probing@{k} (model)",
            description=f"the same with {k} coordinates of the residual stream in place of latents",
        )
        for k in K
    ]
    whole = "accuracy of a logistic regression on the whole residual stream"
    return (*sae, Metric("llm_test_accuracy", None, "probing (model)", description=whole), *llm)


class SparseProbing(HubData, LabelledData, Task):
    """Probes that read 1, 2 or 5 latents: do single latents represent what texts are about?

    For each class of each data set: take each text's mean codes over its first tokens; select the k latents
    whose means differ most between the class and the other training texts; fit a logistic regression on those
    k; measure its accuracy on the test texts, where chance is 1/2. The result is averaged over classes, then
    over data sets (SAEBench, arXiv 2503.09532, section 3; Gurnee et al., arXiv 2305.01610).

    The negative texts of each class are drawn once with the evaluation's seed, so all SAEs, all k and the
    model itself are probed on the same texts. The model's own accuracies are computed once for all SAEs.
    """

    name: ClassVar[str] = "sparse_probing"
    version: ClassVar[str] = "3"
    metrics: ClassVar[tuple[Metric, ...]] = _metrics()
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "model_accuracy",
            "the accuracy of probes on the whole residual stream, on the data set where it is lowest,",
            0.6,
            "Chance is 0.5: the model does not represent these classes here, so no latent can.",
            metrics=tuple(f"{kind}_top_{k}_test_accuracy" for kind in ("sae", "llm") for k in K),
        ),
    )
    """A probe that ignores the text is right for half of the texts, in every data set. With sae-bench's 1,000
    test texts the standard error is 0.016; 0.6 is six of these above chance."""
    views: ClassVar[tuple[Any, ...]] = ("native", "split")
    # Probes on the residual stream use sae-bench's fixed learning rate and penalty.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(
        [*(metric.name for metric in _metrics()), "model_accuracy"]
    )
    repositories: ClassVar[tuple[str, ...]] = REPOSITORIES

    datasets: Annotated[DataSets, InputFile(file_of)] = Field(None, min_length=1)
    """Data sets: sae-bench's names or the tiny world's, `sae-probes/NAME`, and files with the columns text
    and label (.csv, .jsonl, .parquet); null uses all of the run's data source, `available` those of them that
    can be read and have enough texts."""
    train_texts: int | None = Field(None, ge=4, le=10**7)
    """Training texts per probe, half of them from its class; null means 4000, or 400 in the tiny world."""
    test_texts: int | None = Field(None, ge=4, le=10**7)
    """Test texts per probe; null means 1000, or 200 in the tiny world."""
    context: int = Field(128, ge=2, le=10**7)
    """Tokens read per text, including BOS."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._data_sets(ctx)
        return None

    def cost(self, setting: CostSetting) -> Cost:
        tiny = setting.data.source == "tinyworld"
        train, test = _TINY_TEXTS if tiny else _HUB_TEXTS
        sizes = (self.train_texts or train, self.test_texts or test)
        each = sum(limited_texts(size, setting) // 2 for size in sizes)
        default = [*TINY_CLASSES] if tiny else _HUB_SETS
        chosen = self.datasets if isinstance(self.datasets, tuple) else default
        classes = sum(classes_of(chosen))
        tokens = classes * each * text_tokens(setting, self.context)
        fits = classes * len(K)
        once = setting.read(tokens) + Work(steps=_STEPS_PER_FIT * (fits + classes))
        per_sae = Work(encoded=tokens, steps=_STEPS_PER_FIT * fits)
        return Cost(once, per_sae, assumes="" if tiny else LONG_TEXTS)

    def prepare(self, lm: LanguageModel, ctx: Context) -> list[ProbedDataSet]:
        """Texts, draws, the model's own accuracies, and the columns of each SAE's codes that probes read.

        Raises UserError for data sets that are unknown or cannot be read, and Skip for too few texts.
        """
        data_sets = self._data_sets(ctx)
        ctx.rests_on(data_sets)
        found = [self._probed(self._texts(name, ctx), lm, ctx) for name in data_sets.used]
        ctx.measured("model_accuracy", min(probed.llm["llm_test_accuracy"] for probed in found))
        return found

    def _data_sets(self, ctx: Context) -> Parts:
        return usable_data_sets(self.name, self.datasets, probing_data_sets(ctx), self._texts, ctx)

    def _texts(self, name: str, ctx: Context) -> Labelled:
        train, test = _TINY_TEXTS if is_tiny(ctx) else _HUB_TEXTS
        return labelled(
            name,
            ctx,
            train=self.train_texts or train,
            test=self.test_texts or test,
            revisions=self.revisions,
            columns=self.columns,
        )

    def _probed(self, data: Labelled, lm: LanguageModel, ctx: Context) -> ProbedDataSet:
        from abench import pool

        texts, train, test = _in_one_list(data)
        problems = one_against_rest(train, test, ctx.evaluation.seed)
        with ctx.steps(f"sparse_probing: reading {data.name}", len(texts), "texts") as steps:
            pooled = pool(
                lm, texts, site=ctx.site, saes=ctx.saes, context=self.context, done=steps.advance_to
            )
        probed = ProbedDataSet(
            data.name, texts, problems, _llm_scores(pooled.residual, data.name, problems, ctx)
        )
        for sae in ctx.saes:
            if not pooled.codes.failed(sae):
                probed.keep(sae, pooled)
        return probed

    def score(
        self, sae: SAE, prepared: list[ProbedDataSet], lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, Mapping[str, Any]]:
        import numpy as np

        each: dict[str, dict[str, float]] = {}
        latents: dict[str, dict[str, list[int]]] = {}
        for probed in ctx.track(prepared, "sparse_probing: probes on latents", "data sets"):
            columns = self._columns(probed, sae, lm, ctx)
            each[probed.name] = _scores("sae", columns, probed.problems) | dict(probed.llm)
            best = columns.best.T.tolist()
            latents[probed.name] = dict(zip((p.name for p in probed.problems), best, strict=True))
        scores = {m.name: float(np.mean([s[m.name] for s in each.values()])) for m in self.metrics}
        return scores, {"datasets": each, "latents": latents}

    def _columns(self, probed: ProbedDataSet, sae: SAE, lm: LanguageModel, ctx: Context) -> Columns:
        """The columns stored by `prepare`, or those of a new SAE; raises an SAE's own error if it failed."""
        from abench import SplitSAE, pool

        base, split = (sae.base, True) if isinstance(sae, SplitSAE) else (sae, False)
        if (base, split) not in probed.columns:
            probed.keep(base, pool(lm, probed.texts, site=ctx.site, saes=(base,), context=self.context))
        return probed.columns[base, split]


@dataclass(frozen=True)
class ProbedDataSet:
    """A data set's texts and probes, with the columns of each SAE that probes read, never all codes."""

    name: str
    texts: Sequence[str]
    problems: Sequence[Problem]
    llm: Mapping[str, float]
    """The model's own accuracies, by metric, averaged over the classes."""
    columns: dict[tuple[Any, bool], Columns] = field(default_factory=dict)
    """Keyed by SAE and whether it is in the split view."""

    def keep(self, sae: SAE, pooled: Pooled) -> None:
        """Store an SAE's columns in both views."""
        codes: PoleCodes = pooled.codes(sae)
        native = best_columns(codes, self.problems, max(K))
        one_sided = codes.negative is None
        self.columns[sae, False] = native
        self.columns[sae, True] = native if one_sided else best_columns(codes.split(), self.problems, max(K))


def _in_one_list(data: Labelled) -> tuple[list[str], dict[str, range], dict[str, range]]:
    """All texts, and the rows of each class for training and for testing."""
    texts: list[str] = []
    halves: list[dict[str, range]] = []
    for half in (data.train, data.test):
        rows = {}
        for name in data.train:
            rows[name] = range(len(texts), len(texts) + len(half[name]))
            texts += half[name]
        halves.append(rows)
    train, test = halves
    return texts, train, test


def _scores(kind: str, columns: Columns, problems: Sequence[Problem]) -> dict[str, float]:
    """Accuracies of probes on the best k columns, averaged over the classes."""
    import numpy as np

    return {
        f"{kind}_top_{k}_test_accuracy": float(
            np.mean([held_out_accuracy(columns.of(n, k), problem) for n, problem in enumerate(problems)])
        )
        for k in K
    }


def _llm_scores(residual: Tensor, name: str, problems: Sequence[Problem], ctx: Context) -> dict[str, float]:
    """Accuracies from mean residuals [texts, d_model], on the best k coordinates and on all of them."""
    import numpy as np

    values = residual.numpy()
    few = _scores("llm", best_columns(values, problems, max(K)), problems)
    each = ctx.track(problems, f"sparse_probing: probes on the residual stream, {name}", "probes")
    return few | {"llm_test_accuracy": float(np.mean([held_out_accuracy(values, p) for p in each]))}
