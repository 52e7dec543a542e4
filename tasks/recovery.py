"""Recovery: does an SAE find the features that synthetic activations are made of?

Everything is scored in terms of poles (tasks/poles.py): the positive and the negative side of a feature are
matched with sides of latents, each at most once. One signed latent and a pair of opposite non-negative ones
can both score 1; `latents_per_axis` tells them apart. No score changes when latents change sign or places.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from abench import Amount, Context, Metric, ModelKind, Scores, Skip, Task

from .firings import LatentUse, PoleCounts, Truth
from .plane import plane_details
from .poles import Matching, Poles, match_axes, match_poles, unit_rows

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SyntheticModel

RECOVERED_COSINE = 0.9


class Recovery(Task):
    """The true features of synthetic activations: are they found, with their signs and coefficients?"""

    name: ClassVar[str] = "recovery"
    version: ClassVar[str] = "2"
    kinds: ClassVar[tuple[ModelKind, ...]] = ("synthetic",)
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "mcc",
            True,
            "MCC",
            headline=True,
            description="mean |cosine| of features and latents that fire, optimal one-to-one assignment",
        ),
        Metric(
            "mean_max_cosine",
            True,
            description="mean over features of the largest |cosine| with a latent that fires",
        ),
        Metric(
            "poles_recovered",
            True,
            "poles",
            headline=True,
            description="poles of features that are matched with a cosine of at least 0.9",
        ),
        Metric(
            "f1",
            True,
            "F1",
            headline=True,
            description="F1 of firings with their sign, mean over the poles of features",
        ),
        Metric("precision", True, description="precision of signed firings, mean over the poles of features"),
        Metric("recall", True, description="recall of signed firings, mean over the poles of features"),
        Metric(
            "spurious_firings",
            False,
            "spurious",
            headline=True,
            description="share of all firings of latents that stand for no firing of a feature with its sign",
        ),
        Metric(
            "latents_per_axis",
            None,
            "latents/axis",
            headline=True,
            description="latents that stand for the two poles of a feature: 1 signed or 2 opposite ones; "
            "1 in a world without two-sided features",
        ),
        Metric(
            "sign_purity",
            True,
            "sign purity",
            headline=True,
            description="share with the right sign of a latent's firings while its two-sided feature fires; "
            "over all features where none is two-sided",
        ),
        Metric(
            "coefficient_error",
            False,
            "coef. error",
            headline=True,
            description="sum over true firings of |recovered − true coefficient|, relative to the true ones; "
            "0 is recovered where the latent is silent",
        ),
        Metric(
            "explained_variance", True, "expl. var.", description="1 − sum ||x − x̂||² / sum ||x − mean||²"
        ),
        Metric("l0", None, "L0", headline=True, description="mean number of latents that fire"),
        Metric("true_l0", None, "true L0", description="mean number of features that fire"),
    )

    epsilon: float = Field(0.1, ge=0, le=1e6)
    """Coefficients up to this share of the mean true one do not count as firings, neither true nor found."""

    def skip(self, lm: SyntheticModel, ctx: Context) -> str | None:
        self._truth(lm, ctx)
        return None

    def prepare(self, lm: SyntheticModel, ctx: Context) -> Truth:
        """Held-out activations and what they are made of."""
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
            for start in range(0, total, size)
        ]
        return Truth.of(batches, lm.directions.to(lm.device), self.epsilon * lm.spec.mean)

    def score(
        self, sae: Any, prepared: Truth, lm: SyntheticModel, ctx: Context
    ) -> Scores | tuple[Scores, dict[str, Any]]:
        use = LatentUse.of(sae, prepared)
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
        # A world whose features have names is small enough to be drawn.
        if len(lm.spec.names) < 2:
            return scores
        names = [lm.spec.pole_names(feature) for feature in range(lm.spec.features)]
        return scores, {"plane": plane_details(prepared, use, names)}


def _direction_scores(truth: Truth, found: Poles, decoder: Tensor) -> dict[str, float]:
    features, latents = truth.directions[truth.poles.units], decoder[found.units]
    best = (unit_rows(features) @ unit_rows(latents).T).abs().amax(-1)
    matched = match_axes(features, latents).cosine
    # A feature that is left over because too few latents fire counts as 0.
    return {
        "mcc": float(matched.double().sum()) / len(features),
        "mean_max_cosine": float(best.double().mean()),
    }


def _two_sided(poles: Poles) -> Tensor:
    """Mask of the poles of units with two of them; of all poles if there are none."""
    import torch

    two = (poles.unit[:, None] == poles.unit).sum(-1) == 2
    return two if bool(two.any()) else torch.ones_like(two)


def _firing_scores(counts: PoleCounts, two_sided: Tensor) -> dict[str, float]:
    both, opposite = counts.both[two_sided].sum(), counts.opposite[two_sided].sum()
    if not both + opposite:
        raise Skip("no latent ever fires together with its feature, so its sign has no purity")
    return {
        "f1": float((2 * counts.both / (counts.true + counts.found)).mean()),
        "precision": float((counts.both / counts.found.clamp_min(1)).mean()),
        "recall": float((counts.both / counts.true).mean()),
        "sign_purity": float(both / (both + opposite)),
        "coefficient_error": float(counts.error.sum() / counts.size.sum()),
    }


def _latents_per_axis(true: Poles, found: Poles, matching: Matching) -> float:
    """Mean number of latents that it takes for the poles of a two-sided feature.

    A pole that is left over because too few latents fire takes one more.
    """
    import torch

    latents = -1 - torch.arange(len(true.unit), device=true.unit.device)
    latents[matching.true] = found.unit[matching.found]
    counted = _two_sided(true)
    carriers = set(zip(true.unit[counted].tolist(), latents[counted].tolist(), strict=True))
    return len(carriers) / len({feature for feature, _ in carriers})
