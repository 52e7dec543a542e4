"""The SAE classes that sae-lens lacks; importing this module registers them with sae-lens.

Afterwards `sae_lens.SAE.load_from_disk` opens every SAE that abench saved.
"""

from abench.variants.absjumprelu_sae import AbsJumpReLUSAE, AbsJumpReLUTrainingSAE
from abench.variants.absmatryoshka_sae import AbsMatryoshkaTrainingSAE
from abench.variants.batchabstopk_sae import BatchAbsTopKSAE, BatchAbsTopKTrainingSAE
from abench.variants.multistep_sae import MultiStepSAE, MultiStepTrainingSAE
from abench.variants.signedtopk_sae import SignedTopKSAE, SignedTopKTrainingSAE

__all__ = [
    "AbsJumpReLUSAE",
    "AbsJumpReLUTrainingSAE",
    "AbsMatryoshkaTrainingSAE",
    "BatchAbsTopKSAE",
    "BatchAbsTopKTrainingSAE",
    "MultiStepSAE",
    "MultiStepTrainingSAE",
    "SignedTopKSAE",
    "SignedTopKTrainingSAE",
]
