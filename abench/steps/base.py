"""What a training step is, and what all derived ones share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import TrainingSAE
from torch import Tensor

from abench.steps.scratch import scratch


@dataclass(frozen=True)
class StepResult:
    """What is known of a batch after its step."""

    loss: float
    mse: float
    """Mean over tokens of ||x − x_hat||²."""
    l0: float
    """Mean number of latents different from zero."""
    fired: Tensor
    """Mask [width] of the latents different from zero on any token."""


class Step(ABC):
    """Loss and gradients of one SAE on a batch. It keeps no state that could change a result."""

    def __init__(self, sae: TrainingSAE[Any]) -> None:
        self.sae = sae

    @abstractmethod
    def __call__(
        self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor, *, step: int = 0
    ) -> StepResult:
        """Leave the gradients of the loss on a batch [tokens, d_in] in the parameters' `.grad`.

        They last until the next step, of this or another SAE: all steps of a thread share their memory.
        `coefficients` are the weights of the penalties under sae-lens's names, `dead` is the mask [width] of
        the latents that get the auxiliary loss, `step` counts the steps before this one.
        """


class DerivedStep(Step):
    """A step with gradients written out, into the same memory every time."""

    gradients: dict[str, Tensor]
    """A parameter's gradient by its name."""

    def __call__(
        self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor, *, step: int = 0
    ) -> StepResult:
        """See Step."""
        parameters = dict(self.sae.named_parameters())
        self.gradients = {name: _buffer(name, p) for name, p in parameters.items()}
        with torch.no_grad():
            result = self.descend(batch.to(self.sae.dtype), coefficients, dead)
        for name, parameter in parameters.items():
            parameter.grad = self.gradients[name]
        return result

    @abstractmethod
    def descend(self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor) -> StepResult:
        """Fill `gradients` with those of the mean loss over the batch; vectors are 0, the rest undefined."""

    def centred(self, batch: Tensor) -> Tensor:
        """What the encoder reads."""
        return batch - self.sae.b_dec if self.sae.cfg.apply_b_dec_to_input else batch

    def subtract_input_bias(self, input_sums: Tensor) -> None:
        """Give b_dec its gradient as the encoder's offset.

        It comes from `input_sums` [width], the pre-activations' gradient summed over tokens: a matrix-vector
        product instead of the gradient of the whole input.
        """
        if self.sae.cfg.apply_b_dec_to_input:
            self.gradients["b_dec"].addmv_(self.sae.W_enc, input_sums, alpha=-1)


def _buffer(name: str, parameter: Tensor) -> Tensor:
    if parameter.ndim != 2:
        return torch.zeros_like(parameter)
    rows, columns = parameter.shape
    return scratch(f"gradient of {name}", rows, columns, like=parameter)
