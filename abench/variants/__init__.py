"""The SAE variants: each is a proximal operator and the SAE built on it.

Importing this package is fast: torch and sae-lens are imported when an SAE is built, saved or loaded.
`import abench.variants.saes` registers the architectures that sae-lens lacks, so that
`sae_lens.SAE.load_from_disk` opens every SAE that abench saved; `load_sae` registers them itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abench.variants.absjumprelu import AbsJumpReLU, abs_jump_relu
from abench.variants.absmatryoshka import AbsMatryoshka
from abench.variants.abstopk import AbsTopK, abs_top_k
from abench.variants.base import Penalised, SAEShape, Selecting, Variant
from abench.variants.batchabstopk import BatchAbsTopK, batch_abs_top_k, two_sided_jump
from abench.variants.batchtopk import BatchTopK, batch_top_k
from abench.variants.gated import Gated, gate
from abench.variants.jumprelu import JumpReLU, jump_relu
from abench.variants.matryoshka import Matryoshka
from abench.variants.multistep import MultiStep, proximal_steps
from abench.variants.registry import find_variants, get_variant, register, variant_names
from abench.variants.relu import ReLU, soft_threshold
from abench.variants.signedtopk import SignedTopK, signed_top_k
from abench.variants.sparsity import L0Controller
from abench.variants.topk import TopK, top_k

if TYPE_CHECKING:
    from abench.variants.architectures import register_inference, register_training
    from abench.variants.export import load_sae, save_sae

__all__ = [
    "AbsJumpReLU",
    "AbsMatryoshka",
    "AbsTopK",
    "BatchAbsTopK",
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "L0Controller",
    "Matryoshka",
    "MultiStep",
    "Penalised",
    "ReLU",
    "SAEShape",
    "Selecting",
    "SignedTopK",
    "TopK",
    "Variant",
    "abs_jump_relu",
    "abs_top_k",
    "batch_abs_top_k",
    "batch_top_k",
    "find_variants",
    "gate",
    "get_variant",
    "jump_relu",
    "load_sae",
    "proximal_steps",
    "register",
    "register_inference",
    "register_training",
    "save_sae",
    "signed_top_k",
    "soft_threshold",
    "top_k",
    "two_sided_jump",
    "variant_names",
]


_LATER = {
    "load_sae": "export",
    "register_inference": "architectures",
    "register_training": "architectures",
    "save_sae": "export",
}
"""Name -> module, for names whose modules import torch and sae-lens."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"abench.variants.{_LATER[name]}"), name)
    raise AttributeError(f"module 'abench.variants' has no attribute '{name}'")
