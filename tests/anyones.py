"""Objects with nothing but `encode`, `decode` and `W_dec`."""

from typing import Any

from torch import Tensor


class Bare:
    """What a notebook has: the three, and nothing that an abench SAE has in addition."""

    def __init__(self, sae: Any) -> None:
        self._sae = sae

    @property
    def W_dec(self) -> Tensor:  # noqa: N802 - sae-lens's name
        weights: Tensor = self._sae.W_dec
        return weights

    def encode(self, x: Tensor) -> Tensor:
        codes: Tensor = self._sae.encode(x)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        x_hat: Tensor = self._sae.decode(codes)
        return x_hat
