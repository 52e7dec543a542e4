"""The step of JumpReLU: straight-through estimators on the entries near or above their thresholds."""

from typing import Any

import torch
from sae_lens import TrainingSAE
from torch import Tensor

from abench.kernels.scratch import space
from abench.training.steps.penalised import Part, PenalisedStep, Sums, indicator


class JumpReLUStep(PenalisedStep):
    """Loss: squared error + c · mean L0 (by a step or by tanh) + a term that pulls dead latents up to θ.

    Within half a bandwidth ε of the threshold θ, the estimators replace the jump's gradient by that of a
    ramp: ∂z/∂θ = −θ/ε, ∂step/∂θ = −1/ε, and the opposite sign for the pre-activation if it gets a gradient.
    """

    def __init__(self, sae: TrainingSAE[Any]) -> None:
        super().__init__(sae)
        self.bandwidth = float(sae.bandwidth)
        self.to_input = bool(sae.cfg.jumprelu_ste_to_input)
        self.tanh = sae.cfg.jumprelu_sparsity_loss_mode == "tanh"

    def encoder_bias(self) -> Tensor:
        """See PenalisedStep. With this bias, entries above 0 are within the window or above it."""
        self.sae.threshold.clamp_(min=0.0)  # as in every sae-lens forward pass; below 0 the gate would leak
        bias: Tensor = self.sae.b_enc - self._window_start()
        return bias

    def _window_start(self) -> Tensor:
        start: Tensor = self.sae.threshold.to(self.sae.dtype) - self.bandwidth / 2
        return start

    def descend_on(self, part: Part, sums: Sums) -> None:
        """See PenalisedStep."""
        codes, bandwidth = part.codes, self.bandwidth
        active = indicator(codes.values, bandwidth / 2)
        sums.active += codes.sum(active)
        start = codes.spread(self._window_start())
        latents = torch.add(codes.values, start, out=space("latents", codes.values)).mul_(active)
        error, slope = self.reconstruct(part, latents, sums)
        sums.mse += error
        codes.add_outer(latents, slope, self.gradients["W_dec"], first=part.first)
        latent_slope = codes.sample(slope, self.sae.W_dec)
        if self.tanh:
            self._count_by_tanh(part, latents, latent_slope, sums)
        window = indicator(codes.values, 0, name="window")
        window *= torch.lt(codes.values, bandwidth, out=latents)
        slope_at_input = active.mul_(latent_slope)
        jump = self.sae.threshold.to(self.sae.dtype) / bandwidth
        latent_slope.mul_(window)
        self.gradients["threshold"] -= jump * codes.sum(latent_slope)
        if self.to_input:
            slope_at_input.add_(latent_slope.mul_(codes.spread(jump)))
        if not self.tanh:
            self.gradients["threshold"] -= codes.sum(window) * (sums.weight / bandwidth)
            if self.to_input:
                slope_at_input.add_(window, alpha=sums.weight / bandwidth)
        self.encode_backward(part, slope_at_input, sums)

    def _count_by_tanh(self, part: Part, latents: Tensor, slope: Tensor, sums: Sums) -> None:
        """Add the loss c · mean over tokens of Σᵢ tanh(s zᵢ ‖wᵢ‖), and add its gradient to `slope`."""
        scale = self.sae.cfg.jumprelu_tanh_scale
        counted = (latents * part.codes.spread(scale * sums.norms)).tanh_()
        sums.loss += sums.weight * float(counted.sum())
        steepness = counted.square_().neg_().add_(1).mul_(scale * sums.weight)
        sums.norm_slopes += part.codes.sum(steepness * latents)
        slope.add_(steepness.mul_(part.codes.spread(sums.norms)))

    def finish(self, u: Tensor, centred: Tensor, dead: Tensor, sums: Sums) -> None:
        """See PenalisedStep."""
        if not self.tanh:
            sums.loss += sums.weight * float(sums.active.sum())
        coefficient, index = self.sae.cfg.pre_act_loss_coefficient, dead.nonzero().squeeze(1)
        if coefficient and len(index):
            self._revive(u.index_select(1, index), index, centred, coefficient / len(u), sums)
        self.gradients["b_enc"] += sums.inputs

    def _revive(self, u: Tensor, index: Tensor, centred: Tensor, weight: float, sums: Sums) -> None:
        """Add the mean over tokens of Σ relu(θ − pre) ‖w‖ over dead latents, which pulls them towards θ."""
        missing = (self.bandwidth / 2 - u).relu_()
        norms = sums.norms[index]
        slopes = missing.sum(0) * weight
        sums.loss += float(slopes @ norms)
        sums.norm_slopes.index_add_(0, index, slopes)
        below = indicator(missing, 0).mul_(norms * weight)
        pull = below.sum(0)
        self.gradients["threshold"].index_add_(0, index, pull.to(self.sae.threshold.dtype))
        sums.inputs.index_add_(0, index, -pull)
        self.gradients["W_enc"].index_add_(1, index, centred.T @ below, alpha=-1)
