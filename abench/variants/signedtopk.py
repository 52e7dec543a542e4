"""Signed TopK: the k latents of largest value, not rectified. A control for AbsTopK."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from sae_lens import TopKSAE, TopKSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from torch import Tensor

from abench.variants.architectures import register_inference, register_training
from abench.variants.base import SAEShape
from abench.variants.topk import TopK


def signed_top_k(u: Tensor, k: int) -> Tensor:
    """Keep the k largest entries of the last dimension, whatever their sign, set the others to 0.

    No regulariser has this proximal operator, because proximal operators are monotone: with k = 1,
    u = (−2, −1) gives (0, −1) and u' = (−1, −2) gives (−1, 0), so ⟨u − u', z − z'⟩ = −2 < 0. Where at least
    k entries are positive it is `top_k`, the operator of ι(‖z‖₀ ≤ k, z ≥ 0).
    """
    kept = u.topk(k, dim=-1, sorted=False)
    return u.new_zeros(u.shape).scatter(-1, kept.indices, kept.values)


@dataclass
class SignedTopKSAEConfig(TopKSAEConfig):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference configuration: TopK's."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry and in cfg.json."""
        return "signedtopk"


class SignedTopKSAE(TopKSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference: TopK's, without the rectifier."""

    cfg: SignedTopKSAEConfig

    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        """The operator, on pre-activations times decoder norms."""
        return partial(signed_top_k, k=self.cfg.k)


@dataclass
class SignedTopKTrainingSAEConfig(TopKTrainingSAEConfig):  # type: ignore[misc]  # sae-lens: untyped
    """Training configuration: TopK's."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return "signedtopk"


class SignedTopKTrainingSAE(TopKTrainingSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Training: TopK's, without the rectifier."""

    cfg: SignedTopKTrainingSAEConfig

    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        """The operator, on pre-activations times decoder norms."""
        return partial(signed_top_k, k=self.cfg.k)


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
        return SignedTopKTrainingSAEConfig(
            **shape.common(),
            k=shape.k,
            decoder_init_norm=self.decoder_init_norm,
            aux_loss_coefficient=self.aux_loss_coefficient,
        )


register_inference(SignedTopKSAE, SignedTopKSAEConfig)
register_training(SignedTopKTrainingSAE, SignedTopKTrainingSAEConfig)
