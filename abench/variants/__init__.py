"""The SAE variants: each a proximal operator and the SAE built on it.

Importing this package imports neither torch nor sae-lens; `abench.variants.saes` does, and registers the
architectures that sae-lens lacks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from abench.variants.absjumprelu import AbsJumpReLU, abs_jump_relu
from abench.variants.absmatryoshka import AbsMatryoshka
from abench.variants.abstopk import AbsTopK, abs_top_k
from abench.variants.base import Penalised, SAEShape, Variant
from abench.variants.batchabstopk import BatchAbsTopK
from abench.variants.batchtopk import BatchTopK, batch_top_k
from abench.variants.gated import Gated, gate
from abench.variants.jumprelu import JumpReLU, jump_relu
from abench.variants.matryoshka import Matryoshka
from abench.variants.multistep import MultiStep, proximal_steps
from abench.variants.registry import get_variant, register, variant_names
from abench.variants.relu import ReLU, soft_threshold
from abench.variants.signedtopk import SignedTopK, signed_top_k
from abench.variants.sparsity import L0Controller
from abench.variants.topk import TopK, top_k

if TYPE_CHECKING:
    from abench.variants.batchabstopk_sae import batch_abs_top_k, two_sided_jump
    from abench.variants.export import load_sae, save_sae

_NEEDS_SAE_LENS = {
    "batch_abs_top_k": "batchabstopk_sae",
    "load_sae": "export",
    "save_sae": "export",
    "two_sided_jump": "batchabstopk_sae",
}

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
    "SignedTopK",
    "TopK",
    "Variant",
    "abs_jump_relu",
    "abs_top_k",
    "batch_abs_top_k",
    "batch_top_k",
    "gate",
    "get_variant",
    "jump_relu",
    "load_sae",
    "proximal_steps",
    "register",
    "save_sae",
    "signed_top_k",
    "soft_threshold",
    "top_k",
    "two_sided_jump",
    "variant_names",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_SAE_LENS:
        raise AttributeError(f"module 'abench.variants' has no attribute '{name}'")
    import_module("abench.variants.saes")
    return getattr(import_module(f"abench.variants.{_NEEDS_SAE_LENS[name]}"), name)
