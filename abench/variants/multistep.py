"""Multi-step AbsTopK: the encoder unrolled for several proximal gradient steps with learned step sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from abench.variants.abstopk import AbsTopK, abs_top_k
from abench.variants.base import SAEShape

if TYPE_CHECKING:
    from torch import Tensor

    from abench.variants.multistep_sae import MultiStepTrainingSAEConfig


def proximal_steps(u: Tensor, x: Tensor, decoder: Tensor, step_sizes: Iterable[Tensor], k: int) -> Tensor:
    """The latents [tokens, width] after one step from z = 0 and one further step per step size.

    Proximal gradient descent on ½‖x − zD‖² + R(z) with R(z) = ι(‖z‖₀ ≤ k), whose operator is `abs_top_k`:

        z₁ = abs_top_k(u),   zₜ₊₁ = abs_top_k(zₜ + μₜ (x − zₜD) Dᵀ)

    u [tokens, width] is the first step's argument with learned weights, W_enc x + b_enc; x [tokens, d_in] is
    the input minus the decoder's bias; D [width, d_in] is the decoder. From z₁ on, steps are exact gradient
    steps, so those with μₜ ≤ 1/‖D‖² (spectral norm) cannot increase the error; learned step sizes may be
    larger. (Iterative hard thresholding, Blumensath and Davies 2008; unrolling, Gregor and LeCun 2010.)
    """
    z = abs_top_k(u, k)
    for step_size in step_sizes:
        z = abs_top_k(z + step_size * ((x - z @ decoder) @ decoder.T), k)
    return z


class MultiStep(AbsTopK):
    """AbsTopK with an encoder of several proximal gradient steps: LISTA's counterpart for exactly k latents.

    One step is AbsTopK. Further steps correct the latents by the reconstruction error, projected by the
    transposed decoder; the only new weights are the step sizes, one number per further step.
    """

    name: ClassVar[str] = "multistep"
    title: ClassVar[str] = "Multi-step AbsTopK"
    regulariser: ClassVar[str] = "R(z) = ι(‖z‖₀ ≤ k), several proximal gradient steps"

    steps: int = Field(default=2, ge=1, le=32)
    """Proximal gradient steps; each after the first costs about as much time as the first."""

    initial_step_size: float | None = Field(default=None, gt=0, le=1e6)
    """Initial size of the later steps; None: the largest size that cannot increase the error for a random
    decoder with unit rows, 1 / (1 + √(width / d_in))²."""

    def training_config(self, shape: SAEShape) -> MultiStepTrainingSAEConfig:
        """The "multistep" architecture, which abench adds to sae-lens."""
        from abench.variants.multistep_sae import MultiStepTrainingSAEConfig

        safe = (1 + (shape.width / shape.d_in) ** 0.5) ** -2
        return MultiStepTrainingSAEConfig(
            **self.selection(shape),
            steps=self.steps,
            initial_step_size=safe if self.initial_step_size is None else self.initial_step_size,
        )
