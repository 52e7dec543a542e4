"""The step for any architecture: sae-lens's forward pass and autograd."""

from collections.abc import Mapping

from sae_lens.saes.sae import TrainStepInput
from torch import Tensor

from abench.steps.base import Step, StepResult


class AutogradStep(Step):
    """Whatever the SAE itself computes; the reference for all derived steps."""

    def __call__(
        self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor, *, step: int = 0
    ) -> StepResult:
        """See Step."""
        self.sae.zero_grad(set_to_none=True)
        output = self.sae.training_forward_pass(
            TrainStepInput(
                sae_in=batch,
                coefficients=dict(coefficients),
                dead_neuron_mask=dead,
                n_training_steps=step,
                is_logging_step=False,
            )
        )
        output.loss.backward()
        codes = output.feature_acts.detach()
        fired = (codes.to_dense() if codes.is_sparse else codes) != 0
        return StepResult(
            loss=float(output.loss.detach()),
            mse=float(output.losses["mse_loss"].detach()),
            l0=float(fired.sum()) / len(batch),
            fired=fired.any(0),
        )
