"""Two-sided JumpReLU: a learned threshold for each sign of every latent, with an L0 penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from abench.variants.base import Penalised, SAEShape

if TYPE_CHECKING:
    from sae_lens import SAE
    from torch import Tensor

    from abench.variants.absjumprelu_sae import AbsJumpReLUTrainingSAEConfig


def abs_jump_relu(u: Tensor, above: float | Tensor, below: float | Tensor) -> Tensor:
    """u where u > above or u < −below, 0 elsewhere, for thresholds of at least 0.

    The proximal operator of R(z) = Σᵢ λᵢ⁺[zᵢ > 0] + λᵢ⁻[zᵢ < 0] for above = √(2λ⁺) and below = √(2λ⁻):
    keeping a coordinate costs the λ of its sign and saves ½u²; the other sign never pays off. With both
    thresholds √(2λ) it is the operator of λ‖z‖₀, JumpReLU's regulariser without its sign constraint (paper,
    Lemma 1). At a threshold both choices cost the same.
    """
    return u * ((u > above) | (u < -below))


class AbsJumpReLU(Penalised):
    """The two-sided JumpReLU SAE: thresholds for both signs, learned through a straight-through estimator.

    The paper proposes it as future work. The activation is the Bi-Jump-ReLU of Wieciech et al. (arXiv
    2605.28149), who train it inside a gated SAE with an auxiliary reconstruction; here it is trained like
    JumpReLU, with JumpReLU's defaults.
    """

    name: ClassVar[str] = "absjumprelu"
    title: ClassVar[str] = "AbsJumpReLU"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "R(z) = Σᵢ λᵢ⁺·[zᵢ > 0] + λᵢ⁻·[zᵢ < 0], λ learned"
    penalty: ClassVar[str] = "l0"
    starting_coefficient: ClassVar[float] = 0.1
    estimated_gradients: ClassVar[tuple[str, ...]] = (
        *("W_enc", "b_enc", "b_dec", "threshold"),
        "negative_threshold",
    )

    initial_threshold: float = Field(default=1.0, ge=0, le=1e6)
    """Initial value of both thresholds of every latent, in units of the pre-activation's initial spread."""

    bandwidth: float = Field(default=1.0, gt=0, le=1e6)
    """Width of the window around a threshold in which the straight-through estimator has a gradient."""

    train_encoder_through_gate: bool = True
    """Whether the estimator's gradient also reaches the encoder, or only the thresholds."""

    def training_config(self, shape: SAEShape) -> AbsJumpReLUTrainingSAEConfig:
        """The "absjumprelu" architecture, which abench adds to sae-lens."""
        from abench.variants.absjumprelu_sae import AbsJumpReLUTrainingSAEConfig

        return AbsJumpReLUTrainingSAEConfig(
            **shape.common(),
            decoder_init_norm=self.decoder_init_norm,
            jumprelu_init_threshold=self.initial_threshold,
            jumprelu_bandwidth=self.bandwidth,
            jumprelu_ste_to_input=self.train_encoder_through_gate,
            l0_coefficient=self.initial_coefficient(),
        )

    def flip(self, sae: SAE[Any], latents: Tensor) -> None:
        """Flip the sign of latents and exchange the thresholds of their two signs."""
        super().flip(sae, latents)
        above, below = (each[latents].clone() for each in (sae.threshold, sae.negative_threshold))
        sae.threshold[latents], sae.negative_threshold[latents] = below, above
