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
    """The signed Matryoshka SAE: on average k latents of either sign per token, with nested losses.

    Selection is batch-level, so that the only difference from `matryoshka` is the absolute value. Inference
    is that of `batchabstopk`: one two-sided threshold, set by `calibrate`.
    """

    name: ClassVar[str] = "absmatryoshka"
    title: ClassVar[str] = "AbsMatryoshka"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "R(Z) = ι(‖Z‖₀ ≤ k·batch), nested reconstructions"

    def training_config(self, shape: SAEShape) -> AbsMatryoshkaTrainingSAEConfig:
        """The "absmatryoshka" architecture, which abench adds to sae-lens; raises as `matryoshka` does."""
        from abench.variants.absmatryoshka_sae import AbsMatryoshkaTrainingSAEConfig

        return AbsMatryoshkaTrainingSAEConfig(
            **self.selection(shape),
            matryoshka_widths=prefix_widths(self.prefixes, shape.width),
        )

    def calibrate(self, sae: TrainingSAE[Any], activations: Tensor, k: int) -> None:
        """Set the inference threshold so that on these activations k latents are active on average."""
        from abench.variants.calibration import set_threshold

        set_threshold(sae, activations, k, signed=True)
