"""Signed Matryoshka: batch-level AbsTopK whose first latents must also reconstruct on their own."""

from dataclasses import dataclass
from typing import Any, ClassVar

from sae_lens import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    SAEConfig,
    TrainingSAE,
)
from torch import Tensor

from abench.variants.architectures import register_training
from abench.variants.base import SAEShape
from abench.variants.batchabstopk_sae import BatchAbsTopKSAEConfig, BatchAbsTopKTrainingSAE
from abench.variants.calibration import set_threshold
from abench.variants.matryoshka import Matryoshka, prefix_widths


@dataclass
class AbsMatryoshkaTrainingSAEConfig(MatryoshkaBatchTopKTrainingSAEConfig):  # type: ignore[misc]  # untyped
    """Training configuration: sae-lens's Matryoshka options."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return "absmatryoshka"

    def get_inference_config_class(self) -> type[SAEConfig]:
        """Batch-level AbsTopK's: the prefixes matter in training only."""
        return BatchAbsTopKSAEConfig


# Batch-level AbsTopK gives selection, auxiliary loss and threshold, sae-lens's Matryoshka the nested losses.
class AbsMatryoshkaTrainingSAE(BatchAbsTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAE):  # type: ignore[misc]
    """Training on the k·batch latents of largest absolute value, with a loss for every prefix."""

    cfg: AbsMatryoshkaTrainingSAEConfig


class AbsMatryoshka(Matryoshka):
    """The signed Matryoshka SAE: k latents of either sign per token on average, with nested losses.

    Selection is batch-level, so that it differs from `matryoshka` by the absolute value alone. Inference is
    that of `batchabstopk`: one two-sided threshold, set by `calibrate`.
    """

    name: ClassVar[str] = "absmatryoshka"
    title: ClassVar[str] = "AbsMatryoshka"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "R(Z) = ι(‖Z‖₀ ≤ k·batch), nested reconstructions"

    def training_config(self, shape: SAEShape) -> AbsMatryoshkaTrainingSAEConfig:
        """The "absmatryoshka" architecture, which this module adds to sae-lens; errors as `matryoshka`'s."""
        return AbsMatryoshkaTrainingSAEConfig(
            **shape.common(),
            k=shape.k,
            decoder_init_norm=self.decoder_init_norm,
            aux_loss_coefficient=self.aux_loss_coefficient,
            matryoshka_widths=prefix_widths(self.prefixes, shape.width),
        )

    def calibrate(self, sae: TrainingSAE[Any], activations: Tensor, k: int) -> None:
        """Set the inference threshold so that on these activations k latents are active on average."""
        set_threshold(sae, activations, k, signed=True)


register_training(AbsMatryoshkaTrainingSAE, AbsMatryoshkaTrainingSAEConfig)
