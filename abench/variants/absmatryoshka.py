"""Signed Matryoshka: batch-level AbsTopK whose first latents must also reconstruct on their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from abench.variants.base import SAEShape
from abench.variants.matryoshka import Matryoshka, prefix_widths

if TYPE_CHECKING:
    from sae_lens import TrainingSAE
    from torch import Tensor

    from abench.variants.absmatryoshka_sae import AbsMatryoshkaTrainingSAEConfig


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
        from abench.variants.saes import AbsMatryoshkaTrainingSAEConfig

        return AbsMatryoshkaTrainingSAEConfig(
            **shape.common(),
            k=shape.k,
            decoder_init_norm=self.decoder_init_norm,
            aux_loss_coefficient=self.aux_loss_coefficient,
            matryoshka_widths=prefix_widths(self.prefixes, shape.width),
        )

    def calibrate(self, sae: TrainingSAE[Any], activations: Tensor, k: int) -> None:
        """Set the inference threshold so that on these activations k latents are active on average."""
        from abench.variants.calibration import set_threshold

        set_threshold(sae, activations, k, signed=True)
