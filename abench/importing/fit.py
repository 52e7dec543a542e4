"""How well a way of encoding and decoding fits activations: L0, explained variance, norm ratio."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Reconstruct = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Codes [tokens, latents] and reconstructions [tokens, d_in] of activations [tokens, d_in]."""

_TOKENS_AT_ONCE = 256


@dataclass(frozen=True)
class Fit:
    """What was measured on activations of held-out text."""

    l0: float
    """Mean number of active latents per token."""
    explained: float
    """1 − Σ‖x − x̂‖² / Σ‖x − mean‖²; 1 is perfect, and the mean alone reaches 0."""
    norm_ratio: float
    """Mean of ‖x̂‖ / ‖x‖ over tokens."""

    @property
    def unexplained(self) -> float:
        return 1 - self.explained


@torch.no_grad()
def fit_of(reconstruct: Reconstruct, x: Tensor) -> Fit:
    """The fit on activations x [tokens, d_in], of which those of norm 0 are left out of the norm ratio."""
    active, errors, ratios, counted = 0.0, 0.0, 0.0, 0
    for part in torch.split(x, _TOKENS_AT_ONCE):
        codes, output = reconstruct(part)
        active += float((codes.to_dense() if codes.is_sparse else codes).count_nonzero())
        errors += float((part - output).double().square().sum())
        norms = part.norm(dim=-1)
        there = norms > 0
        ratios += float((output.norm(dim=-1)[there] / norms[there]).double().sum())
        counted += int(there.sum())
    spread = float((x - x.mean(dim=0)).double().square().sum())
    return Fit(
        l0=active / len(x),
        explained=1 - errors / spread if spread else float("nan"),
        norm_ratio=ratios / counted if counted else float("nan"),
    )
