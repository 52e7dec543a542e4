"""BatchTopK: the k·batch largest latents of a batch, none of them negative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from abench.variants.base import SAEShape, Selecting
from abench.variants.topk import top_k

if TYPE_CHECKING:
    from sae_lens import BatchTopKTrainingSAEConfig, TrainingSAE
    from torch import Tensor


def batch_top_k(u: Tensor, k: int) -> Tensor:
    """Keep the k·batch largest entries of a batch [..., width] where they are positive.

    The proximal operator of R(Z) = ι(‖Z‖₀ ≤ k·batch, Z ≥ 0) of the batch's latents Z taken together, for
    any λ > 0: Lemma 1's TopK with the batch as one vector, so a token may use more than k latents.
    """
    return top_k(u.flatten(), k * u.shape[:-1].numel()).reshape(u.shape)


class BatchTopK(Selecting):
    """The BatchTopK SAE: on average k non-negative latents per token.

    Inference uses one threshold, set by `calibrate`, and sae-lens's JumpReLU class.
    """

    name: ClassVar[str] = "batchtopk"
    title: ClassVar[str] = "BatchTopK"
    regulariser: ClassVar[str] = "R(Z) = ι(‖Z‖₀ ≤ k·batch, Z ≥ 0)"

    def training_config(self, shape: SAEShape) -> BatchTopKTrainingSAEConfig:
        """sae-lens's "batchtopk" architecture."""
        from sae_lens import BatchTopKTrainingSAEConfig

        return BatchTopKTrainingSAEConfig(**self.selection(shape))

    def calibrate(self, sae: TrainingSAE[Any], activations: Tensor, k: int) -> None:
        """Set the inference threshold so that on these activations k latents are active on average."""
        from abench.variants.calibration import set_threshold

        set_threshold(sae, activations, k, signed=False)
