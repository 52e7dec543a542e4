"""Multi-step AbsTopK: the encoder unrolled for several proximal gradient steps with learned step sizes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig, AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig
from torch import Tensor, nn

from abench.variants.abstopk import AbsTopK, abs_top_k
from abench.variants.architectures import register_inference, register_training
from abench.variants.base import SAEShape


def proximal_steps(u: Tensor, x: Tensor, decoder: Tensor, step_sizes: Iterable[Tensor], k: int) -> Tensor:
    """The latents [tokens, width] after one step from z = 0 and one more for each of the step sizes.

    Proximal gradient descent on ½‖x − zD‖² + R(z) with R(z) = ι(‖z‖₀ ≤ k), whose operator is `abs_top_k`:

        z₁ = abs_top_k(u),   zₜ₊₁ = abs_top_k(zₜ + μₜ (x − zₜD) Dᵀ)

    u [tokens, width] is the first step's argument with learned weights, W_enc x + b_enc, x [tokens, d_in]
    the input less the decoder's bias, D [width, d_in] the decoder. From z₁ on the argument is the exact
    gradient step, so one with μₜ ≤ 1/‖D‖² (spectral norm) cannot increase the error; learned step sizes may
    be longer. (Iterative hard thresholding, Blumensath and Davies 2008; unrolling, Gregor and LeCun 2010.)
    """
    z = abs_top_k(u, k)
    for step_size in step_sizes:
        z = abs_top_k(z + step_size * ((x - z @ decoder) @ decoder.T), k)
    return z


@dataclass
class MultiStepSAEConfig(AbsTopKSAEConfig):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference configuration; the step sizes are among the weights."""

    steps: int = 1

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry and in cfg.json."""
        return "multistep"


@dataclass
class MultiStepTrainingSAEConfig(AbsTopKTrainingSAEConfig):  # type: ignore[misc]  # sae-lens: untyped
    """Training configuration: AbsTopK's, with the number of steps and where their sizes start."""

    steps: int = 1
    initial_step_size: float = 0.0

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return "multistep"


class _MultiStepEncoder:
    """What training and inference share: the step sizes [steps − 1] and the unrolled encoder."""

    cfg: Any
    b_dec: Tensor
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    process_sae_in: Callable[[Tensor], Tensor]
    hook_sae_acts_pre: Callable[[Tensor], Tensor]
    hook_sae_acts_post: Callable[[Tensor], Tensor]

    def initialize_weights(self) -> None:
        """sae-lens's weights, and the step sizes."""
        super().initialize_weights()  # type: ignore[misc]  # sae-lens's class comes after this one
        initial = getattr(self.cfg, "initial_step_size", 0.0)
        sizes = torch.full((self.cfg.steps - 1,), initial, dtype=self.b_dec.dtype, device=self.b_dec.device)
        self.step_sizes = nn.Parameter(sizes)

    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents, and the first step's argument, both [..., width], of activations [..., d_in].

        That argument is what the auxiliary loss takes, so dead latents are revived as AbsTopK's are.
        """
        sae_in = self.process_sae_in(x)
        first, decoder = self.hook_sae_acts_pre(sae_in @ self.W_enc + self.b_enc), self.W_dec
        if self.cfg.rescale_acts_by_decoder_norm:  # latents in units of a decoder with rows of norm 1
            norms = self.W_dec.norm(dim=-1)
            first, decoder = first * norms, self.W_dec / norms[:, None]
        target = sae_in if self.cfg.apply_b_dec_to_input else sae_in - self.b_dec
        latents = proximal_steps(first, target, decoder, self.step_sizes, self.cfg.k)
        return self.hook_sae_acts_post(latents), first


class MultiStepSAE(_MultiStepEncoder, AbsTopKSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference takes the same steps."""

    cfg: MultiStepSAEConfig

    def encode(self, x: Tensor) -> Tensor:
        """Latents [..., width] of activations [..., d_in]."""
        return self.encode_with_hidden_pre(x)[0]


class MultiStepTrainingSAE(_MultiStepEncoder, AbsTopKTrainingSAE):  # type: ignore[misc]  # sae-lens: untyped
    """Training through all steps; their sizes are learned with the weights."""

    cfg: MultiStepTrainingSAEConfig


class MultiStep(AbsTopK):
    """AbsTopK with an encoder of several proximal gradient steps: LISTA's counterpart for exactly k latents.

    One step is AbsTopK. Further steps correct the latents by what they leave unexplained,
    through the transposed decoder: the only new weights are the steps' sizes, one number each.
    """

    name: ClassVar[str] = "multistep"
    title: ClassVar[str] = "Multi-step AbsTopK"
    regulariser: ClassVar[str] = "R(z) = ι(‖z‖₀ ≤ k), several proximal gradient steps"

    steps: int = Field(default=2, ge=1, le=32)
    """Proximal gradient steps; each after the first costs about as much time as the first."""

    initial_step_size: float | None = Field(default=None, gt=0, le=1e6)
    """Where the sizes of the later steps start; None: the largest that cannot increase the error of a
    random decoder with unit rows, 1 / (1 + √(width / d_in))²."""

    def training_config(self, shape: SAEShape) -> MultiStepTrainingSAEConfig:
        """The "multistep" architecture, which this module adds to sae-lens."""
        safe = (1 + (shape.width / shape.d_in) ** 0.5) ** -2
        return MultiStepTrainingSAEConfig(
            **shape.common(),
            k=shape.k,
            decoder_init_norm=self.decoder_init_norm,
            aux_loss_coefficient=self.aux_loss_coefficient,
            steps=self.steps,
            initial_step_size=safe if self.initial_step_size is None else self.initial_step_size,
        )


register_inference(MultiStepSAE, MultiStepSAEConfig)
register_training(MultiStepTrainingSAE, MultiStepTrainingSAEConfig)
