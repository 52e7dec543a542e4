"""Reconstruction: how well an SAE preserves the residual stream and the model's predictions.

Contains the metrics of the paper's reconstruction figures (normalised MSE, loss recovered against two
baselines) and metrics of how an SAE uses its latents. "Active" means non-zero, so signed latents count like
any others; no score changes when a latent's sign is flipped in encoder and decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from abench import Context, Cost, CostSetting, Metric, Precondition, Scores, Task, Work

from .._shared.held_out import too_little_text
from .latent_use import latent_use
from .substitution import Substitution

if TYPE_CHECKING:
    from abench import SAE, LanguageModel


class Core(Task):
    """Reconstruction error, loss recovered, sparsity and use of latents on held-out text."""

    name: ClassVar[str] = "core"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("l0", None, "L0", headline=True, description="mean number of active latents per token"),
        Metric("mse", False, "MSE", description="mean squared error per token, summed over dimensions"),
        Metric("nmse", False, "nMSE", headline=True, description="mean of ||x − x̂||² / ||x||², where x ≠ 0"),
        Metric(
            "explained_variance",
            True,
            "expl. var.",
            headline=True,
            description="1 − sum ||x − x̂||² / sum ||x − mean||²",
        ),
        Metric(
            "loss_recovered_zero",
            True,
            "loss rec.",
            headline=True,
            description="(CE_zero − CE_sae) / (CE_zero − CE_clean)",
        ),
        Metric(
            "loss_recovered_mean",
            True,
            "loss rec. (mean)",
            description="(CE_mean − CE_sae) / (CE_mean − CE_clean)",
        ),
        Metric("ce_clean", None, "CE clean", description="the model's own cross-entropy, nats per token"),
        Metric("ce_sae", False, "CE SAE", description="cross-entropy with the SAE's reconstruction in place"),
        Metric(
            "ce_zero", None, "CE zero", description="cross-entropy with zero-ablation of the residual stream"
        ),
        Metric(
            "ce_mean", None, "CE mean", description="cross-entropy with mean-ablation of the residual stream"
        ),
        Metric(
            "kl",
            False,
            "KL",
            headline=True,
            description="KL(clean predictions || predictions with the reconstruction), nats per token",
        ),
        Metric("dead_fraction", False, "dead", headline=True, description="share of latents that never fire"),
        Metric(
            "two_sided_fraction",
            None,
            "two-sided",
            headline=True,
            description="share of alive latents with at least 5 % of their firings on each side of zero",
        ),
        Metric(
            "antipodal_fraction",
            None,
            "antipodal",
            headline=True,
            description="share of alive latents with a pole opposite to a pole of another (cosine < −0.7)",
        ),
    )

    valid_if: ClassVar[tuple[Precondition, ...]] = tuple(
        Precondition(
            f"{name}_ablation_cost",
            f"the cross-entropy that {name}-ablation of the site costs, in nats per token,",
            0.01,
            "Loss recovered is a share of this cost, which is too small to measure here.",
            metrics=(f"loss_recovered_{name}",),
        )
        for name in ("zero", "mean")
    )
    """Below 0.01 nats, a difference of a hundredth in loss recovered is 0.0001 nats per token, less than the
    sampling error over 10^5 tokens; a cost below 0 would even turn the direction of the score around."""

    in_stream_units: ClassVar[frozenset[str]] = frozenset({"mse"})

    outlier_norm: float | None = Field(10.0, gt=0, le=1e9)
    """Positions with a norm above this multiple of the median keep their clean residual stream, because by
    default SAEs are not trained on them; None replaces these positions too."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        return too_little_text(lm, ctx)

    def cost(self, setting: CostSetting) -> Cost:
        rows = setting.held_out_rows()
        tokens = rows * setting.context_size
        reading = Work(lower=tokens, passes=-(-rows // setting.evaluation.batch_size))
        replaced = Work(upper=tokens, logits=tokens, passes=-(-rows // setting.rows_with_logits))
        # Clean predictions and two ablations, then one pass per SAE.
        return Cost(reading + 3 * replaced, replaced + Work(encoded=tokens, decoded=tokens))

    def prepare(self, lm: LanguageModel, ctx: Context) -> Substitution:
        """Run the text once: clean predictions, the two ablations, and the reconstructions of all SAEs."""
        text = Substitution(lm, ctx, self.outlier_norm)
        for name in ("zero", "mean"):
            cost = text.baselines[f"ce_{name}"] - text.baselines["ce_clean"]
            ctx.measured(f"{name}_ablation_cost", cost)
        return text

    def score(self, sae: SAE, prepared: Substitution, lm: LanguageModel, ctx: Context) -> Scores:
        sums = prepared.of(sae)
        return sums.scores(prepared.baselines) | latent_use(sums.positive, sums.negative, sae.W_dec.float())
