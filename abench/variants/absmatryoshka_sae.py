"""Signed Matryoshka as a sae-lens class for training; for inference there is batch-level AbsTopK's."""

from dataclasses import dataclass

from sae_lens import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig, SAEConfig

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
        """Batch-level AbsTopK's: the prefixes matter in training only."""
        return BatchAbsTopKSAEConfig


# Batch-level AbsTopK gives selection, auxiliary loss and threshold, sae-lens's Matryoshka the nested losses.
class AbsMatryoshkaTrainingSAE(BatchAbsTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAE):  # type: ignore[misc]
    """Training on the k·batch latents of largest absolute value, with a loss for every prefix."""

    cfg: AbsMatryoshkaTrainingSAEConfig


register_training(AbsMatryoshkaTrainingSAE, AbsMatryoshkaTrainingSAEConfig)
