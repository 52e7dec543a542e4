"""The step of ReLU: the ℓ1 norm of the latents, each weighted by its decoder norm."""

from torch import Tensor

from abench.training.steps.penalised import Part, PenalisedStep, Sums, indicator, rectified


class ReLUStep(PenalisedStep):
    """Loss: squared error + c · mean over tokens of Σᵢ zᵢ ‖wᵢ‖, for z = relu(u)."""

    def encoder_bias(self) -> Tensor:
        """See PenalisedStep."""
        bias: Tensor = self.sae.b_enc
        return bias

    def descend_on(self, part: Part, sums: Sums) -> None:
        """See PenalisedStep."""
        codes = part.codes
        latents = rectified(codes.values, name="latents")
        error, slope = self.reconstruct(part, latents, sums)
        sums.mse += error
        codes.add_outer(latents, slope, self.gradients["W_dec"], first=part.first)
        total = codes.sum(latents) * sums.weight
        sums.norm_slopes += total
        sums.loss += float(total @ sums.norms)
        active = indicator(codes.values, 0)
        sums.active += codes.sum(active)
        self.encode_backward(part, penalised_slope(part, slope, self.sae.W_dec, active, sums), sums)

    def finish(self, u: Tensor, centred: Tensor, dead: Tensor, sums: Sums) -> None:
        """See PenalisedStep."""
        self.gradients["b_enc"] += sums.inputs


def penalised_slope(part: Part, slope: Tensor, weight: Tensor, active: Tensor, sums: Sums) -> Tensor:
    """The gradient of active pre-activations, from the reconstruction and the ℓ1 penalty."""
    values = part.codes.sample(slope, weight, name="penalised slope")
    values += part.codes.spread(sums.norms * sums.weight)
    return values.mul_(active)
