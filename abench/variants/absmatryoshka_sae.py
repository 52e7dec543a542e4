"""The sae-lens classes of the signed Matryoshka SAE, registered there as "absmatryoshka" on import."""

from dataclasses import dataclass

from sae_lens import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    SAEConfig,
)

from abench.variants.architectures import register_training
from abench.variants.batchabstopk_sae import BatchAbsTopKSAEConfig, BatchAbsTopKTrainingSAE


@dataclass
class AbsMatryoshkaTrainingSAEConfig(MatryoshkaBatchTopKTrainingSAEConfig):  # type: ignore[misc]  # untyped
    """Training configuration: sae-lens's Matryoshka options."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return "absmatryoshka"

    def get_inference_config_class(self) -> type[SAEConfig]:
        """The configuration of batch-level AbsTopK: prefixes matter in training only."""
        return BatchAbsTopKSAEConfig


# Selection, auxiliary loss and threshold: batch-level AbsTopK. Nested losses: sae-lens's Matryoshka.
class AbsMatryoshkaTrainingSAE(BatchAbsTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAE):  # type: ignore[misc]
    """Training on the k·batch latents of largest absolute value, with one loss per prefix."""

    cfg: AbsMatryoshkaTrainingSAEConfig


register_training(AbsMatryoshkaTrainingSAE, AbsMatryoshkaTrainingSAEConfig)
