"""The auxiliary loss of the TopK family: dead latents reconstruct the error of the live ones."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DeadLatents:
    """The dead latents' data for the auxiliary loss."""

    index: Tensor
    """Their indices, [dead]."""
    size: Tensor
    """The values they are ranked by, [tokens, dead]."""
    values: Tensor
    """The values to decode, [tokens, dead]; overwritten by `auxiliary`."""
    weight: Tensor
    """Their decoder rows, [dead, d_in]."""


@dataclass(frozen=True)
class DeadGradients:
    """The loss and its gradients, restricted to dead latents."""

    loss: Tensor
    decoder: Tensor
    """Gradient of their decoder rows, [dead, d_in]."""
    values: Tensor
    """Gradient of the decoded values, [tokens, dead]."""


def auxiliary(dead: DeadLatents, error: Tensor, coefficient: float) -> DeadGradients:
    """sae-lens's auxiliary loss: the d_in / 2 largest dead latents of each token decode the error.

    `error` [tokens, d_in] is x − x_hat and gets no gradient. If there are fewer than d_in / 2 dead latents,
    the loss is scaled down proportionally.
    """
    tokens, d_in = error.shape
    most, count = d_in // 2, len(dead.index)
    values, chosen = dead.values, None
    if most < count:
        best = dead.size.topk(most, dim=-1, sorted=False).indices
        chosen = torch.zeros_like(values).scatter_(-1, best, 1.0)
        values *= chosen
    missing = torch.addmm(error, values, dead.weight, beta=-1)
    scale = coefficient * min(count / most, 1.0)
    loss = missing.square().sum() * (scale / tokens)
    missing *= 2 * scale / tokens
    gradient = missing @ dead.weight.T
    if chosen is not None:
        gradient *= chosen
    return DeadGradients(loss, values.T @ missing, gradient)
