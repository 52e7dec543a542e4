"""The step of Gated: one product for both paths, and a second reconstruction from the gate alone."""

import torch
from torch import Tensor

from abench.kernels.scratch import space
from abench.training.steps.penalised import Part, PenalisedStep, Sums, indicator, rectified
from abench.training.steps.relu import penalised_slope


class GatedStep(PenalisedStep):
    """Loss: squared error + squared error of decoding g = relu(π) + c · mean over tokens of Σᵢ gᵢ ‖wᵢ‖.

    The gate is open where π = s + b_gate > 0; there z = relu(exp(r)·s + b_mag). Both paths share s, the
    product of encoder and input, so it is computed once. Nothing has a gradient where the gate is closed.
    """

    def encoder_bias(self) -> Tensor:
        """See PenalisedStep."""
        bias: Tensor = self.sae.b_gate
        return bias

    def descend_on(self, part: Part, sums: Sums) -> None:
        """See PenalisedStep."""
        codes, sae, gradients = part.codes, self.sae, self.gradients
        gate = rectified(codes.values, name="gate")
        is_open = indicator(codes.values, 0, name="is open")
        error, slope = self.reconstruct(part, gate, sums)
        sums.loss += error
        codes.add_outer(gate, slope, gradients["W_dec"], first=part.first)
        total = codes.sum(gate) * sums.weight
        sums.norm_slopes += total
        sums.loss += float(total @ sums.norms)
        gate_slope = penalised_slope(part, slope, sae.W_dec, is_open, sums)
        gradients["b_gate"] += codes.sum(gate_slope)

        growth = sae.r_mag.exp()
        grown = torch.sub(codes.values, codes.spread(sae.b_gate), out=space("grown", codes.values))
        grown *= codes.spread(growth)
        latents = torch.add(grown, codes.spread(sae.b_mag), out=space("latents", grown))
        latents = latents.relu_().mul_(is_open)
        active = indicator(latents, 0)
        sums.active += codes.sum(active)
        error, slope = self.reconstruct(part, latents, sums)
        sums.mse += error
        codes.add_outer(latents, slope, gradients["W_dec"], first=False)
        magnitude_slope = codes.sample(slope, sae.W_dec).mul_(active)
        gradients["b_mag"] += codes.sum(magnitude_slope)
        gradients["r_mag"] += codes.sum(grown.mul_(magnitude_slope))
        self.encode_backward(part, gate_slope.add_(magnitude_slope.mul_(codes.spread(growth))), sums)

    def finish(self, u: Tensor, centred: Tensor, dead: Tensor, sums: Sums) -> None:
        """See PenalisedStep."""
