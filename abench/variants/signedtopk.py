"""Signed TopK: the k latents of largest value, not rectified. A control for AbsTopK."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from abench.variants.base import SAEShape
from abench.variants.topk import TopK

if TYPE_CHECKING:
    from torch import Tensor

    from abench.variants.signedtopk_sae import SignedTopKTrainingSAEConfig


def signed_top_k(u: Tensor, k: int) -> Tensor:
    """Keep the k largest entries of the last dimension, whatever their sign, set the others to 0.

    No regulariser has this proximal operator, because proximal operators are monotone: with k = 1,
    u = (−2, −1) gives (0, −1) and u' = (−1, −2) gives (−1, 0), so ⟨u − u', z − z'⟩ = −2 < 0. Where at least
    k entries are positive it is `top_k`, the operator of ι(‖z‖₀ ≤ k, z ≥ 0).
    """
    kept = u.topk(k, dim=-1, sorted=False)
    return u.new_zeros(u.shape).scatter(-1, kept.indices, kept.values)


class SignedTopK(TopK):
    """TopK without its rectifier: exactly k latents per token, chosen by value.

    It tells apart what AbsTopK changes: that latents may be negative, which it shares, and that they are
    chosen by absolute value, which it does not. A latent is negative only where fewer than k are positive,
    so at widths far above k hardly ever; and flipping a latent's sign does change it.
    """

    name: ClassVar[str] = "signedtopk"
    title: ClassVar[str] = "Signed TopK"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "none: not monotone, so no proximal operator"

    def training_config(self, shape: SAEShape) -> SignedTopKTrainingSAEConfig:
        """The "signedtopk" architecture, which this module adds to sae-lens."""
        from abench.variants.saes import SignedTopKTrainingSAEConfig

        return SignedTopKTrainingSAEConfig(
            **shape.common(),
            k=shape.k,
            decoder_init_norm=self.decoder_init_norm,
            aux_loss_coefficient=self.aux_loss_coefficient,
        )
