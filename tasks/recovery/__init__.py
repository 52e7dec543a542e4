"""Recovery: does an SAE find the features of which synthetic activations are made?

Everything is scored in terms of poles (poles.py): the positive and the negative side of each feature are
matched with sides of latents, each at most once. One signed latent and a pair of opposite non-negative
latents can both score 1; `latents_per_axis` distinguishes them. Scores are invariant to the signs and the
order of latents.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from abench import Amount, Context, Cost, CostSetting, Metric, ModelKind, Scores, Skip, Task, Work

from .firings import LatentFirings, PoleCounts, Truth
from .plane import plane_details
from .poles import Matching, Poles, match_axes, match_poles, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from abench import SAE, SyntheticModel, TaskFigure

RECOVERED_COSINE = 0.9


class Recovery(Task):
    """Does an SAE find the true features of synthetic activations, with their signs and coefficients?"""

    name: ClassVar[str] = "recovery"
    version: ClassVar[str] = "2"
    kinds: ClassVar[tuple[ModelKind, ...]] = ("synthetic",)
    truth: ClassVar[str | None] = "mcc"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "mcc",
            True,
            "MCC",
            headline=True,
            description="mean |cosine| of features and alive latents under the optimal one-to-one assignment",
        ),
        Metric(
            "mean_max_cosine",
            True,
            description="largest |cosine| with an alive latent, mean over features",
        ),
        Metric(
            "poles_recovered",
            True,
            "poles",
            headline=True,
            description="share of the features' poles that are matched with a cosine of at least 0.9",
        ),
        Metric(
            "f1",
            True,
            "F1",
            headline=True,
            description="F1 of signed firings, mean over the poles of features",
        ),
        Metric("precision", True, description="precision of signed firings, mean over the poles of features"),
        Metric("recall", True, description="recall of signed firings, mean over the poles of features"),
        Metric(
            "spurious_firings",
            False,
            "spurious",
            headline=True,
            description="share of all latents' firings that match no firing of a feature with its sign",
        ),
        Metric(
            "latents_per_axis",
            None,
            "latents/axis",
            headline=True,
            description="latents per two-sided feature: 1 signed latent, or 2 opposite ones for its poles; "
            "1 in a world without two-sided features",
        ),
        Metric(
            "sign_purity",
            True,
            "sign purity",
            headline=True,
            description="share of a latent's firings with the correct sign while its two-sided feature "
            "fires; over all features if none is two-sided",
        ),
        Metric(
            "coefficient_error",
            False,
            "coef. error",
            headline=True,
            description="sum over true firings of |recovered − true coefficient|, relative to the sum of the "
            "true ones; a silent latent recovers 0",
        ),
        Metric(
            "explained_variance", True, "expl. var.", description="1 − sum ||x − x̂||² / sum ||x − mean||²"
        ),
        Metric("l0", None, "L0", headline=True, description="mean number of latents that fire"),
        Metric("true_l0", None, "true L0", description="mean number of features that fire"),
    )

    epsilon: float = Field(0.1, ge=0, le=1e6)
    """Threshold for firing, as a share of the mean true coefficient; applies to features and latents."""

    @classmethod
    def figures(cls) -> Sequence[TaskFigure]:
        from abench.report import PLANE

        return (PLANE,)

    def skip(self, lm: SyntheticModel, ctx: Context) -> str | None:
        self._truth(lm, ctx)
        return None

    def cost(self, setting: CostSetting) -> Cost:
        tokens = setting.limited(setting.evaluation.tokens)
        # Once for firings and the error, once for the coefficients of matched latents.
        return Cost(per_sae=Work(encoded=2 * tokens, decoded=tokens))

    def prepare(self, lm: SyntheticModel, ctx: Context) -> Truth:
        """Held-out activations, with the features of which they are made."""
        truth = self._truth(lm, ctx)
        ctx.used(Amount("activations", truth.tokens, truth.tokens))
        return truth

    def _truth(self, lm: SyntheticModel, ctx: Context) -> Truth:
        return ctx.once("truth", partial(self._sampled, lm, ctx))

    def _sampled(self, lm: SyntheticModel, ctx: Context) -> Truth:
        size = ctx.evaluation.batch_size * ctx.context_size
        total = min(ctx.evaluation.tokens, ctx.evaluation.limit or ctx.evaluation.tokens)
        batches = [
            lm.sample(min(size, total - start), "held_out", seed=ctx.evaluation.seed, index=start // size)
            for start in ctx.track(range(0, total, size), "recovery: held-out activations", "batches")
        ]
        return Truth.of(batches, lm.directions.to(lm.device), self.epsilon * lm.spec.mean)

    def score(
        self, sae: SAE, prepared: Truth, lm: SyntheticModel, ctx: Context
    ) -> Scores | tuple[Scores, dict[str, Any]]:
        use = LatentFirings.of(sae, prepared)
        if len(use.poles.unit) == 0:
            raise Skip("no latent fires on the held-out activations, so nothing can be matched")
        matching = match_poles(prepared.poles, use.poles)
        counts = PoleCounts.of(sae, prepared, use.poles, matching)
        scores = {
            **_direction_scores(prepared, use.poles, sae.W_dec),
            **_firing_scores(counts, _two_sided(prepared.poles)),
            "poles_recovered": int((matching.cosine >= RECOVERED_COSINE).sum()) / len(prepared.poles.unit),
            "latents_per_axis": _latents_per_axis(prepared.poles, use.poles, matching),
            "spurious_firings": 1 - float(counts.both.sum()) / use.total,
            "explained_variance": 1 - use.error / prepared.variance,
            "l0": use.total / prepared.tokens,
            "true_l0": float(counts.true.sum()) / prepared.tokens,
        }
        # A world with named features is small enough to draw.
        if len(lm.spec.names) < 2:
            return scores
        names = [lm.spec.pole_names(feature) for feature in range(lm.spec.features)]
        return scores, {"plane": plane_details(prepared, use, names)}


def _direction_scores(truth: Truth, found: Poles, decoder: Tensor) -> dict[str, float]:
    features, latents = truth.directions[truth.poles.units], decoder[found.units]
    best = (unit_rows(features) @ unit_rows(latents).T).abs().amax(-1)
    matched = match_axes(features, latents).cosine
    # A feature without a match, because too few latents fire, counts as 0.
    return {
        "mcc": float(matched.double().sum()) / len(features),
        "mean_max_cosine": float(best.double().mean()),
    }


def _two_sided(poles: Poles) -> Tensor:
    """Mask of the poles of two-sided units; of all poles if no unit is two-sided."""
    import torch

    two = (poles.unit[:, None] == poles.unit).sum(-1) == 2
    return two if bool(two.any()) else torch.ones_like(two)


def _firing_scores(counts: PoleCounts, two_sided: Tensor) -> dict[str, float]:
    both, opposite = counts.both[two_sided].sum(), counts.opposite[two_sided].sum()
    if not both + opposite:
        raise Skip("no latent ever fires together with its feature, so sign purity is undefined")
    return {
        "f1": float((2 * counts.both / (counts.true + counts.found)).mean()),
        "precision": float((counts.both / counts.found.clamp_min(1)).mean()),
        "recall": float((counts.both / counts.true).mean()),
        "sign_purity": float(both / (both + opposite)),
        "coefficient_error": float(counts.error.sum() / counts.size.sum()),
    }


def _latents_per_axis(true: Poles, found: Poles, matching: Matching) -> float:
    """Mean number of latents for the poles of a two-sided feature.

    A pole without a match, because too few latents fire, counts as one more latent.
    """
    import torch

    latents = -1 - torch.arange(len(true.unit), device=true.unit.device)
    latents[matching.true] = found.unit[matching.found]
    counted = _two_sided(true)
    carriers = set(zip(true.unit[counted].tolist(), latents[counted].tolist(), strict=True))
    return len(carriers) / len({feature for feature, _ in carriers})
