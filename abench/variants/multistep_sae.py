"""The sae-lens classes of multi-step AbsTopK, registered there as "multistep" on import."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import (
    AbsTopKSAE,
    AbsTopKSAEConfig,
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
)
from torch import Tensor, nn

from abench.variants.architectures import register_inference, register_training
from abench.variants.multistep import proximal_steps


@dataclass
class MultiStepSAEConfig(AbsTopKSAEConfig):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference configuration; the step sizes are stored with the weights."""

    steps: int = 1

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry and in cfg.json."""
        return "multistep"


@dataclass
class MultiStepTrainingSAEConfig(AbsTopKTrainingSAEConfig):  # type: ignore[misc]  # sae-lens: untyped
    """Training configuration: AbsTopK's, with the number of steps and their initial size."""

    steps: int = 1
    initial_step_size: float = 0.0

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return "multistep"


class _MultiStepEncoder:
    """The common part of training and inference: the step sizes [steps − 1] and the unrolled encoder."""

    cfg: Any
    b_dec: Tensor
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    process_sae_in: Callable[[Tensor], Tensor]
    hook_sae_acts_pre: Callable[[Tensor], Tensor]
    hook_sae_acts_post: Callable[[Tensor], Tensor]

    def initialize_weights(self) -> None:
        """Initialise sae-lens's weights and the step sizes."""
        super().initialize_weights()  # type: ignore[misc]  # sae-lens's class comes after this one
        initial = getattr(self.cfg, "initial_step_size", 0.0)
        sizes = torch.full((self.cfg.steps - 1,), initial, dtype=self.b_dec.dtype, device=self.b_dec.device)
        self.step_sizes = nn.Parameter(sizes)

    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and the first step's argument, both [..., width], of activations [..., d_in].

        The auxiliary loss uses this argument, so dead latents are revived as in AbsTopK.
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
    """Inference with the same steps as in training."""

    cfg: MultiStepSAEConfig

    def encode(self, x: Tensor) -> Tensor:
        """Latents [..., width] of activations [..., d_in]."""
        return self.encode_with_hidden_pre(x)[0]


class MultiStepTrainingSAE(_MultiStepEncoder, AbsTopKTrainingSAE):  # type: ignore[misc]  # sae-lens: untyped
    """Training through all steps; the step sizes are learned with the other weights."""

    cfg: MultiStepTrainingSAEConfig


register_inference(MultiStepSAE, MultiStepSAEConfig)
register_training(MultiStepTrainingSAE, MultiStepTrainingSAEConfig)
