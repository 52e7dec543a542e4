"""AbsTopK: the k latents of largest absolute value of every token, with their signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from abench.variants.base import SAEShape, Selecting

if TYPE_CHECKING:
    from sae_lens import AbsTopKTrainingSAEConfig
    from torch import Tensor


def abs_top_k(u: Tensor, k: int) -> Tensor:
    """Keep the k entries of largest absolute value in the last dimension and set the others to 0.

    The proximal operator of R(z) = ι(‖z‖₀ ≤ k), for any λ > 0 (paper, Lemma 1 and the AbsTopK section):
    TopK's regulariser without its sign constraint. Keeping a coordinate saves ½u² of the distance to u, so
    the k coordinates of largest |u| save most.
    """
    kept = u.abs().topk(k, dim=-1, sorted=False).indices
    return u.new_zeros(u.shape).scatter(-1, kept, u.gather(-1, kept))


class AbsTopK(Selecting):
    """The AbsTopK SAE: exactly k latents per token, each of either sign."""

    name: ClassVar[str] = "abstopk"
    title: ClassVar[str] = "AbsTopK"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "R(z) = ι(‖z‖₀ ≤ k)"

    def training_config(self, shape: SAEShape) -> AbsTopKTrainingSAEConfig:
        """sae-lens's "abstopk" architecture."""
        from sae_lens import AbsTopKTrainingSAEConfig

        return AbsTopKTrainingSAEConfig(**self.selection(shape))
