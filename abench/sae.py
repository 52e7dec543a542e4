"""The interface that abench requires of a sparse autoencoder, independent of its class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class SAEConfig(Protocol):
    """The sizes of an SAE; further fields depend on its class and determine how it encodes."""

    d_in: int
    """Width of the residual stream."""
    d_sae: int
    """Number of latents."""


class SAE(Protocol):
    """A trained SAE: a `sae_lens.SAE`, an `abench.SplitSAE`, or what `abench.as_sae` makes of any object with
    `encode`, `decode` and `W_dec`. It is hashable."""

    @property
    def cfg(self) -> SAEConfig: ...

    @property
    def W_dec(self) -> Tensor:  # noqa: N802 - sae-lens's name
        """[latents, d_in]; row i is the direction that latent i adds."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def encode(self, x: Tensor) -> Tensor:
        """Codes [..., latents] of activations [..., d_in], in the SAE's own units (see `residual_codes`)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions [..., d_in] of codes [..., latents] of the activations that were encoded last."""
