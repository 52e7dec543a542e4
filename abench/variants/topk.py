"""TopK: the k largest latents of every token, none of them negative."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from abench.variants.base import SAEShape, Selecting

if TYPE_CHECKING:
    from sae_lens import TopKTrainingSAEConfig
    from torch import Tensor


def top_k(u: Tensor, k: int) -> Tensor:
    """Keep the k largest entries of the last dimension where they are positive and set the others to 0.

    The proximal operator of R(z) = ι(‖z‖₀ ≤ k, z ≥ 0), for any λ > 0 (paper, Lemma 1): keeping a coordinate
    saves ½max(u, 0)² of the distance to u, so the k largest save most.
    """
    kept = u.topk(k, dim=-1, sorted=False)
    return u.new_zeros(u.shape).scatter(-1, kept.indices, kept.values.relu())


class TopK(Selecting):
    """The TopK SAE: at most k non-negative latents per token."""

    name: ClassVar[str] = "topk"
    title: ClassVar[str] = "TopK"
    regulariser: ClassVar[str] = "R(z) = ι(‖z‖₀ ≤ k, z ≥ 0)"

    def training_config(self, shape: SAEShape) -> TopKTrainingSAEConfig:
        """sae-lens's "topk" architecture."""
        from sae_lens import TopKTrainingSAEConfig

        return TopKTrainingSAEConfig(**self.selection(shape))
