"""Signed TopK: the k latents of largest value, without rectification. A control for AbsTopK."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from abench.variants.base import SAEShape
from abench.variants.topk import TopK

if TYPE_CHECKING:
    from torch import Tensor

    from abench.variants.signedtopk_sae import SignedTopKTrainingSAEConfig


def signed_top_k(u: Tensor, k: int) -> Tensor:
    """Keep the k largest entries of the last dimension, of any sign, and set the others to 0.

    This is not the proximal operator of any regulariser, because proximal operators are monotone: with k = 1,
    u = (−2, −1) gives (0, −1) and u' = (−1, −2) gives (−1, 0), so ⟨u − u', z − z'⟩ = −2 < 0. If at least k
    entries are positive, it equals `top_k`, the operator of ι(‖z‖₀ ≤ k, z ≥ 0).
    """
    kept = u.topk(k, dim=-1, sorted=False)
    return u.new_zeros(u.shape).scatter(-1, kept.indices, kept.values)


class SignedTopK(TopK):
    """TopK without its rectifier: exactly k latents per token, selected by value.

    It separates the two changes of AbsTopK: latents may be negative (as here), and they are selected by
    absolute value (unlike here). A latent is negative only on tokens with fewer than k positive
    pre-activations, so hardly ever at widths far above k. Flipping a latent's sign changes the SAE.
    """

    name: ClassVar[str] = "signedtopk"
    title: ClassVar[str] = "Signed TopK"
    signed: ClassVar[bool] = True
    flippable: ClassVar[bool] = False
    regulariser: ClassVar[str] = "none: not monotone, so no proximal operator"

    def training_config(self, shape: SAEShape) -> SignedTopKTrainingSAEConfig:
        """The "signedtopk" architecture, which abench adds to sae-lens."""
        from abench.variants.signedtopk_sae import SignedTopKTrainingSAEConfig

        return SignedTopKTrainingSAEConfig(**self.selection(shape))
