"""Batch AbsTopK: the k·batch latents of largest absolute value of a batch, with their signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from abench.variants.abstopk import abs_top_k
from abench.variants.base import SAEShape, Selecting

if TYPE_CHECKING:
    from sae_lens import TrainingSAE
    from torch import Tensor

    from abench.variants.batchabstopk_sae import BatchAbsTopKTrainingSAEConfig


def batch_abs_top_k(u: Tensor, k: int) -> Tensor:
    """Keep the k·batch entries of largest absolute value of a batch [..., width], with their signs.

    The proximal operator of R(Z) = ι(‖Z‖₀ ≤ k·batch) of the batch's latents Z taken together, for any
    λ > 0: Lemma 1's AbsTopK with the batch as one vector, so a token may use more than k latents.
    """
    return abs_top_k(u.flatten(), k * u.shape[:-1].numel()).reshape(u.shape)


def two_sided_jump(u: Tensor, threshold: float | Tensor) -> Tensor:
    """u where |u| > threshold, 0 elsewhere.

    The proximal operator of λ‖z‖₀ for threshold √(2λ): JumpReLU's regulariser without its sign constraint.
    """
    return u * (u.abs() > threshold)


class BatchAbsTopK(Selecting):
    """The batch-level AbsTopK SAE of the paper's code: on average k latents of either sign per token.

    The paper's code ranks within the batch at evaluation, too; here inference uses one two-sided threshold,
    set by `calibrate`, so that a token's latents do not depend on the other tokens of its batch.
    """

    name: ClassVar[str] = "batchabstopk"
    title: ClassVar[str] = "Batch AbsTopK"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "R(Z) = ι(‖Z‖₀ ≤ k·batch)"

    def training_config(self, shape: SAEShape) -> BatchAbsTopKTrainingSAEConfig:
        """The "batchabstopk" architecture, which abench adds to sae-lens."""
        from abench.variants.batchabstopk_sae import BatchAbsTopKTrainingSAEConfig

        return BatchAbsTopKTrainingSAEConfig(**self.selection(shape))

    def calibrate(self, sae: TrainingSAE[Any], activations: Tensor, k: int) -> None:
        """Set the inference threshold so that on these activations k latents are active on average."""
        from abench.variants.calibration import set_threshold

        set_threshold(sae, activations, k, signed=True)
