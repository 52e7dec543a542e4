"""Gated: one path decides which latents are active, another how strongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from abench.variants.base import Penalised, SAEShape

if TYPE_CHECKING:
    from sae_lens import GatedTrainingSAEConfig
    from torch import Tensor


def gate(gate_pre: Tensor, magnitude_pre: Tensor) -> Tensor:
    """relu(magnitude) where the gate's pre-activation is positive, 0 elsewhere.

    The paper's Lemma 1 gives no regulariser for it, and as a function of two arguments it is not a proximal
    operator. However, the two paths share their directions: with magnitude_pre = exp(r)·s + b_mag and
    gate_pre = s + b_gate for the same s, the gate opens where magnitude_pre > θ = b_mag − exp(r)·b_gate.
    The function then equals jump_relu(magnitude_pre, max(θ, 0)), the proximal operator of a weighted ℓ0 with
    learned weights θ²/2 (Rajamanoharan et al. 2024, section 3.2 and appendix).
    """
    return magnitude_pre.relu() * (gate_pre > 0)


class Gated(Penalised):
    """The Gated SAE: an ℓ1 penalty on the gate's path only, so active latents are not shrunk.

    Training adds the error of a reconstruction from the gate's path alone, so that the gate stays
    informative; neither term is the regulariser of the operator.
    """

    name: ClassVar[str] = "gated"
    title: ClassVar[str] = "Gated"
    regulariser: ClassVar[str] = (
        "none of its own; with shared directions Σᵢ ½θᵢ²·[zᵢ ≠ 0] + ι(z ≥ 0), θ learned"
    )
    penalty: ClassVar[str] = "l1"
    # Adapted values end at 0.5 to 4; see ReLU for the low initial value.
    starting_coefficient: ClassVar[float] = 0.1

    def training_config(self, shape: SAEShape) -> GatedTrainingSAEConfig:
        """sae-lens's "gated" architecture."""
        from sae_lens import GatedTrainingSAEConfig

        return GatedTrainingSAEConfig(
            **shape.common(),
            decoder_init_norm=self.decoder_init_norm,
            l1_coefficient=self.initial_coefficient(),
        )
