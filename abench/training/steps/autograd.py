"""The step for any architecture: sae-lens's forward pass and autograd."""

from collections.abc import Mapping
from typing import Any

import torch
from sae_lens import TrainingSAE
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor

from abench.training.steps.base import Step, StepResult


class AutogradStep(Step):
    """The SAE's own forward pass with autograd; the reference for all derived steps."""

    def __init__(self, sae: TrainingSAE[Any], *, autocast: torch.dtype | None = None) -> None:
        super().__init__(sae)
        self._autocast = autocast
        """Dtype of the products in the forward pass and their gradients; None for the SAE's own."""

    def __call__(
        self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor, *, step: int = 0
    ) -> StepResult:
        """See Step."""
        self.sae.zero_grad(set_to_none=True)
        given = TrainStepInput(
            sae_in=batch,
            coefficients=dict(coefficients),
            dead_neuron_mask=dead,
            n_training_steps=step,
            is_logging_step=False,
        )
        with torch.autocast(batch.device.type, self._autocast, enabled=self._autocast is not None):
            output = self.sae.training_forward_pass(given)
        output.loss.backward()
        codes = output.feature_acts.detach()
        fired = (codes.to_dense() if codes.is_sparse else codes) != 0
        return StepResult(
            loss=float(output.loss.detach()),
            mse=float(output.losses["mse_loss"].detach()),
            l0=float(fired.sum()) / len(batch),
            fired=fired.any(0),
        )
