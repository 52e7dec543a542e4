"""sae-lens's classes and those that abench adds to it, in one place that is imported when an SAE is needed.

Importing sae-lens takes seconds, which a command that neither builds nor opens an SAE does without. Importing
this module registers the architectures that sae-lens lacks, so that `sae_lens.SAE.load_from_disk` opens
whatever abench saved.
"""
# ruff: noqa: E402

from abench._torchvision import hide_if_broken

hide_if_broken()  # before sae_lens is first imported

from sae_lens import (
    AbsTopKTrainingSAEConfig,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAEConfig,
    TopKTrainingSAEConfig,
    TrainingSAE,
)

from abench.variants.absjumprelu_sae import AbsJumpReLUTrainingSAEConfig
from abench.variants.absmatryoshka_sae import AbsMatryoshkaTrainingSAEConfig
from abench.variants.batchabstopk_sae import BatchAbsTopKTrainingSAEConfig
from abench.variants.multistep_sae import MultiStepTrainingSAEConfig
from abench.variants.signedtopk_sae import SignedTopKTrainingSAEConfig

__all__ = [
    "AbsJumpReLUTrainingSAEConfig",
    "AbsMatryoshkaTrainingSAEConfig",
    "AbsTopKTrainingSAEConfig",
    "BatchAbsTopKTrainingSAEConfig",
    "BatchTopKTrainingSAEConfig",
    "GatedTrainingSAEConfig",
    "JumpReLUTrainingSAEConfig",
    "MatryoshkaBatchTopKTrainingSAEConfig",
    "MultiStepTrainingSAEConfig",
    "SignedTopKTrainingSAEConfig",
    "StandardTrainingSAEConfig",
    "TopKTrainingSAEConfig",
    "TrainingSAE",
]
