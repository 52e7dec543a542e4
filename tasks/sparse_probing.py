"""Sparse probing: how well a few latents alone tell a class of texts from the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from abench import Context, Metric, Scores, Task

from .labelled import Labelled, is_tiny, labelled, probing_data_sets
from .labelled_hub import REPOSITORIES
from .probes import Columns, Problem, best_columns, held_out_accuracy, one_against_rest
from .revisions import HubData

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel, PoleCodes, Pooled

K = (1, 2, 5)
"""Numbers of latents a probe may read, as in sae-bench."""

_HUB_TEXTS, _TINY_TEXTS = (4000, 1000), (400, 200)
"""Texts a probe is fitted to and tested on: sae-bench's, and what gives the tiny world's run its pace."""


def _metrics() -> tuple[Metric, ...]:
    sae = [
        Metric(
            f"sae_top_{k}_test_accuracy",
            True,
            f"probing@{k}",
            headline=k == 1,
            paper="score" if k == 1 else None,
            description=f"accuracy of a logistic regression on the {k} latents whose means differ most",
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


class SparseProbing(HubData, Task):
    """Whether single latents stand for what texts are about: probes that read 1, 2 or 5 latents.

    For each class of each data set: mean codes of each text over its first tokens; the k latents whose means
    differ most between the class and the rest of the training texts; a logistic regression on those k;
    its accuracy on the test texts, where chance is 1/2. Averaged over classes, then over data sets
    (SAEBench, arXiv 2503.09532, section 3; Gurnee et al., arXiv 2305.01610).

    The rest of a class's texts is drawn once from the evaluation's seed: all SAEs, all k and the model itself
    are probed on the same texts. What stands for the model does not depend on the SAE and is made once.
    """

    name: ClassVar[str] = "sparse_probing"
    version: ClassVar[str] = "2"
    metrics: ClassVar[tuple[Metric, ...]] = _metrics()
    views: ClassVar[tuple[Any, ...]] = ("native", "split")
    # Probes learn from the residual stream at the rate and with the penalty that sae-bench fixes.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(metric.name for metric in _metrics())
    repositories: ClassVar[tuple[str, ...]] = REPOSITORIES

    datasets: tuple[str, ...] | None = Field(None, min_length=1)
    """Data sets by sae-bench's names, or of the tiny world; null takes all of the run's data source."""
    train_texts: int | None = Field(None, ge=4, le=10**7)
    """Texts a probe is fitted to, half of them of its class; null is 4000, in the tiny world 400."""
    test_texts: int | None = Field(None, ge=4, le=10**7)
    """Texts a probe is tested on; null is 1000, in the tiny world 200."""
    context: int = Field(128, ge=2, le=10**7)
    """Tokens of a text that are read, BOS included."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        for name in self._names(ctx):
            self._texts(name, ctx)
        return None

    def prepare(self, lm: LanguageModel, ctx: Context) -> list[Probed]:
        """Texts, draws and the model's own accuracies; of each SAE's codes the columns that probes read.

        Raises UserError for a data set that is unknown or cannot be read.
        """
        found = []
        for name in self._names(ctx):
            ctx.say(f"sparse_probing: texts of {name}")
            found.append(self._probed(self._texts(name, ctx), lm, ctx))
        return found

    def _names(self, ctx: Context) -> tuple[str, ...]:
        return self.datasets or probing_data_sets(ctx)

    def _texts(self, name: str, ctx: Context) -> Labelled:
        train, test = _TINY_TEXTS if is_tiny(ctx) else _HUB_TEXTS
        return labelled(
            name,
            ctx,
            train=self.train_texts or train,
            test=self.test_texts or test,
            revisions=self.revisions,
        )

    def _probed(self, data: Labelled, lm: LanguageModel, ctx: Context) -> Probed:
        from abench import pool

        texts, train, test = _in_one_list(data)
        problems = one_against_rest(train, test, ctx.evaluation.seed)
        pooled = pool(lm, texts, ctx, context=self.context)
        probed = Probed(data.name, texts, problems, _llm_scores(pooled.residual, problems))
        for sae in ctx.saes:
            if not pooled.codes.failed(sae):
                probed.keep(sae, pooled)
        return probed

    def score(
        self, sae: Any, prepared: list[Probed], lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, Mapping[str, Any]]:
        import numpy as np

        each: dict[str, dict[str, float]] = {}
        latents: dict[str, dict[str, list[int]]] = {}
        for probed in prepared:
            columns = self._columns(probed, sae, lm, ctx)
            each[probed.name] = _scores("sae", columns, probed.problems) | dict(probed.llm)
            best = columns.best.T.tolist()
            latents[probed.name] = dict(zip((p.name for p in probed.problems), best, strict=True))
        scores = {m.name: float(np.mean([s[m.name] for s in each.values()])) for m in self.metrics}
        return scores, {"datasets": each, "latents": latents}

    def _columns(self, probed: Probed, sae: Any, lm: LanguageModel, ctx: Context) -> Columns:
        """Kept by `prepare`. An SAE that failed there raises its own error here; a new one is encoded."""
        from abench import pool

        base, split = _reading(sae)
        if (base, split) not in probed.columns:
            probed.keep(base, pool(lm, probed.texts, replace(ctx, saes=(base,)), context=self.context))
        return probed.columns[base, split]


@dataclass(frozen=True)
class Probed:
    """A data set's texts and probes; of each SAE only the columns that a probe reads, never all codes."""

    name: str
    texts: Sequence[str]
    problems: Sequence[Problem]
    llm: Mapping[str, float]
    """The model's own accuracies, by metric, averaged over the classes."""
    columns: dict[tuple[Any, bool], Columns] = field(default_factory=dict)
    """By SAE and whether it is seen split."""

    def keep(self, sae: Any, pooled: Pooled) -> None:
        """Keep an SAE's columns in both views."""
        codes: PoleCodes = pooled.codes(sae)
        native = best_columns(codes, self.problems, max(K))
        one_sided = codes.negative is None
        self.columns[sae, False] = native
        self.columns[sae, True] = native if one_sided else best_columns(codes.split(), self.problems, max(K))


def _reading(sae: Any) -> tuple[Any, bool]:
    from abench import SplitSAE

    return (sae.base, True) if isinstance(sae, SplitSAE) else (sae, False)


def _in_one_list(data: Labelled) -> tuple[list[str], dict[str, range], dict[str, range]]:
    """All texts, and the rows among them of each class for training and for testing."""
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


def _llm_scores(residual: Tensor, problems: Sequence[Problem]) -> dict[str, float]:
    """The same from mean residuals [texts, d_model], and from all their coordinates together."""
    import numpy as np

    values = residual.numpy()
    few = _scores("llm", best_columns(values, problems, max(K)), problems)
    return few | {"llm_test_accuracy": float(np.mean([held_out_accuracy(values, p) for p in problems]))}
