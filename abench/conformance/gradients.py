"""The gradients of a variant's training step, compared with differences of its loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from abench.training.steps import Step, make_step
from abench.variants import SAEShape, Variant

_AWAY = 1e-6
"""Distance from the point to both sides at which the loss is computed, in float64."""
_TOLERANCE = 1e-4


def wrong_gradients(variant: Variant, shape: SAEShape, batches: Sequence[Tensor]) -> list[str]:
    """The parameters whose gradient is not the derivative of the loss, at random weights.

    It is compared along a random direction with the central difference. On one of `batches` [tokens, d_in],
    in float64, they must agree, because a selection of latents may change between the two sides. Parameters
    in the variant's `estimated_gradients` are left out.
    """
    sae, dice = variant.build(shape, 3).to(torch.float64), torch.Generator().manual_seed(1)
    sae.dtype = torch.float64
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=dice, dtype=torch.float64)
    coefficients = {} if variant.penalty is None else {variant.penalty: 0.3}
    loss = _Loss(sae, coefficients)
    names = [name for name, _ in sae.named_parameters() if name not in variant.estimated_gradients]
    return [name for name in names if not any(loss.agrees(name, batch, dice) for batch in batches)]


class _Loss:
    """The training loss of an SAE on a batch, and its gradient, by the step that training takes."""

    def __init__(self, sae: Any, coefficients: Mapping[str, float]) -> None:
        self._step: Step = make_step(sae)
        self._parameters, self._coefficients = dict(sae.named_parameters()), coefficients
        self._dead = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)

    def agrees(self, name: str, batch: Tensor, dice: torch.Generator) -> bool:
        """Whether the gradient of a parameter along a random direction is the derivative."""
        parameter = self._parameters[name]
        direction = torch.randn(parameter.shape, generator=dice, dtype=torch.float64)
        direction = (direction / direction.norm()).to(parameter.dtype)
        ahead, behind = (self._at(parameter, direction, side * _AWAY, batch) for side in (1, -1))
        self._step(batch, self._coefficients, self._dead)
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        expected = float((gradient * direction).sum())
        measured = (ahead - behind) / (2 * _AWAY)
        return abs(measured - expected) <= _TOLERANCE * max(1.0, float(gradient.norm()))

    def _at(self, parameter: Tensor, direction: Tensor, away: float, batch: Tensor) -> float:
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(direction, alpha=away)
        found = float(self._step(batch, self._coefficients, self._dead).loss)
        with torch.no_grad():
            parameter.copy_(before)
        return found
