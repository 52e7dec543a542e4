"""Splitting activations into parts whose dense codes fit into memory."""

import torch
from torch import Tensor

from abench.latents.anyones import usable
from abench.sae import SAE

_CODES_AT_ONCE = 1 << 24
"""Largest dense block of codes, tokens × latents: 64 MiB in float32."""


def rows_at_once(sae: SAE) -> int:
    """The number of tokens whose dense codes [tokens, latents] fit into 64 MiB; at least 1."""
    return max(1, _CODES_AT_ONCE // int(usable(sae).cfg.d_sae))


def dense_parts(sae: SAE, x: Tensor) -> tuple[Tensor, ...]:
    """The rows of x [tokens, ...], split into parts of at most `rows_at_once(sae)`."""
    return torch.split(x, rows_at_once(sae))
