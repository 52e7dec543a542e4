"""Batch AbsTopK: the k·batch latents of largest absolute value of a batch, with their signs."""

from typing import Any, ClassVar

from pydantic import Field
from sae_lens import TrainingSAE
from torch import Tensor

from abench.variants.base import SAEShape, Variant
from abench.variants.batchabstopk_sae import BatchAbsTopKTrainingSAEConfig
from abench.variants.calibration import set_threshold


class BatchAbsTopK(Variant):
    """The batch-level AbsTopK SAE of the paper's code: k latents of either sign per token on average.

    The paper's code ranks within the batch at evaluation too; here inference uses one two-sided threshold,
    set by `calibrate`, so that a token's latents do not depend on its neighbours.
    """

    name: ClassVar[str] = "batchabstopk"
    title: ClassVar[str] = "Batch AbsTopK"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "R(Z) = ι(‖Z‖₀ ≤ k·batch)"

    aux_loss_coefficient: float = Field(default=1.0, ge=0, le=1e6)
    """Weight of the loss that lets dead latents reconstruct the error of the live ones."""

    def training_config(self, shape: SAEShape) -> BatchAbsTopKTrainingSAEConfig:
        """The "batchabstopk" architecture, which this package adds to sae-lens."""
        return BatchAbsTopKTrainingSAEConfig(
            **shape.common(),
            k=shape.k,
            decoder_init_norm=self.decoder_init_norm,
            aux_loss_coefficient=self.aux_loss_coefficient,
        )

    def calibrate(self, sae: TrainingSAE[Any], activations: Tensor, k: int) -> None:
        """Set the inference threshold so that on these activations k latents are active on average."""
        set_threshold(sae, activations, k, signed=True)
