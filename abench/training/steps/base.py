"""The interface of a training step, and the common part of all derived steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import TrainingSAE
from torch import Tensor

from abench.kernels.scratch import scratch


@dataclass(frozen=True)
class StepResult:
    """The measurements of one training step."""

    loss: float
    mse: float
    """Mean over tokens of ||x − x_hat||²."""
    l0: float
    """Mean number of non-zero latents per token."""
    fired: Tensor
    """Mask [width] of the latents that are non-zero on any token."""


class Step(ABC):
    """Computes one SAE's loss and gradients on a batch. Has no state that could change a result."""

    def __init__(self, sae: TrainingSAE[Any]) -> None:
        self.sae = sae

    @abstractmethod
    def __call__(
        self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor, *, step: int = 0
    ) -> StepResult:
        """Store the gradients of the loss on a batch [tokens, d_in] in the parameters' `.grad`.

        They are valid until the next step of this or another SAE, because all steps of a thread share memory.
        `coefficients` are the weights of the penalties by sae-lens's names, `dead` is the mask [width] of the
        latents that get the auxiliary loss, `step` is the number of steps before this one.
        """


class DerivedStep(Step):
    """A step with hand-derived gradients, which reuse the same memory in every step."""

    gradients: dict[str, Tensor]
    """Parameter name -> gradient."""

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
        """Fill `gradients` for the mean loss over the batch; vectors start at 0, matrices uninitialised."""

    def centred(self, batch: Tensor) -> Tensor:
        """The encoder's input, [tokens, d_in]: the batch, minus b_dec if the SAE subtracts it."""
        return batch - self.sae.b_dec if self.sae.cfg.apply_b_dec_to_input else batch

    def subtract_input_bias(self, input_sums: Tensor) -> None:
        """Add the gradient that b_dec receives as an offset of the encoder's input.

        It is computed from `input_sums` [width], the pre-activations' gradient summed over tokens: a
        matrix-vector product instead of the gradient of the whole input.
        """
        if self.sae.cfg.apply_b_dec_to_input:
            self.gradients["b_dec"].addmv_(self.sae.W_enc, input_sums, alpha=-1)


def _buffer(name: str, parameter: Tensor) -> Tensor:
    if parameter.ndim != 2:
        return torch.zeros_like(parameter)
    rows, columns = parameter.shape
    return scratch(f"gradient of {name}", rows, columns, like=parameter)
