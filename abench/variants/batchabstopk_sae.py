"""The sae-lens classes of batch-level AbsTopK, registered there as "batchabstopk" on import."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from sae_lens import (
    AbsTopKTrainingSAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    JumpReLUSAE,
    SAEConfig,
)
from torch import Tensor

from abench.variants.architectures import register_inference, register_training
from abench.variants.batchabstopk import batch_abs_top_k, two_sided_jump

ARCHITECTURE = "batchabstopk"


@dataclass
class BatchAbsTopKSAEConfig(SAEConfig):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference configuration; the threshold is stored with the weights."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry and in cfg.json."""
        return ARCHITECTURE


class BatchAbsTopKSAE(JumpReLUSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference with a two-sided gate; sae-lens's JumpReLU would rectify pre-activations first."""

    cfg: BatchAbsTopKSAEConfig

    def encode(self, x: Tensor) -> Tensor:
        """Latents [..., width] of activations [..., d_in]: the pre-activation where |it| > threshold."""
        pre = self.hook_sae_acts_pre(self.process_sae_in(x) @ self.W_enc + self.b_enc)
        latents: Tensor = self.hook_sae_acts_post(two_sided_jump(pre, self.threshold))
        return latents


@dataclass
class BatchAbsTopKTrainingSAEConfig(BatchTopKTrainingSAEConfig):  # type: ignore[misc]  # sae-lens: untyped
    """Training configuration: BatchTopK's options."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return ARCHITECTURE

    def get_inference_config_class(self) -> type[SAEConfig]:
        """The configuration class that is saved as cfg.json."""
        return BatchAbsTopKSAEConfig


# AbsTopK provides the auxiliary loss by absolute value, BatchTopK the threshold and its export.
class BatchAbsTopKTrainingSAE(AbsTopKTrainingSAE, BatchTopKTrainingSAE):  # type: ignore[misc]  # untyped
    """Training on the k·batch latents of largest absolute value of every batch."""

    cfg: BatchAbsTopKTrainingSAEConfig

    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        """The operator, on pre-activations times decoder norms."""
        return partial(batch_abs_top_k, k=int(self.cfg.k))

    @torch.no_grad()
    def update_topk_threshold(self, acts_topk: Tensor) -> None:
        """Update sae-lens's running mean with the smallest selected absolute value."""
        super().update_topk_threshold(acts_topk.abs())


register_inference(BatchAbsTopKSAE, BatchAbsTopKSAEConfig)
register_training(BatchAbsTopKTrainingSAE, BatchAbsTopKTrainingSAEConfig)
