"""The sae-lens classes of the two-sided JumpReLU, registered there as "absjumprelu" on import."""

from dataclasses import dataclass

import torch
from sae_lens import (
    JumpReLUSAE,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    SAEConfig,
)
from sae_lens.saes.jumprelu_sae import JumpReLU as StraightThroughJump
from sae_lens.saes.jumprelu_sae import Step as StraightThroughStep
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor, nn

from abench.variants.absjumprelu import abs_jump_relu
from abench.variants.architectures import register_inference, register_training


@dataclass
class AbsJumpReLUSAEConfig(SAEConfig):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference configuration; the thresholds are stored with the weights."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry and in cfg.json."""
        return "absjumprelu"


class AbsJumpReLUSAE(JumpReLUSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference: `threshold` for positive, `negative_threshold` for negative latents, both [width]."""

    cfg: AbsJumpReLUSAEConfig

    def initialize_weights(self) -> None:
        """Initialise sae-lens's weights and the second threshold."""
        super().initialize_weights()
        self.negative_threshold = nn.Parameter(torch.zeros_like(self.threshold))

    def encode(self, x: Tensor) -> Tensor:
        """Latents [..., width] of activations [..., d_in]."""
        pre = self.hook_sae_acts_pre(self.process_sae_in(x) @ self.W_enc + self.b_enc)
        latents = abs_jump_relu(pre, self.threshold, self.negative_threshold)
        kept: Tensor = self.hook_sae_acts_post(latents)
        return kept

    @torch.no_grad()
    def fold_W_dec_norm(self) -> None:  # noqa: N802 - sae-lens's name
        """Fold decoder norms as sae-lens does, for both thresholds."""
        self.negative_threshold.mul_(self.get_W_dec_norm())
        super().fold_W_dec_norm()


@dataclass
class AbsJumpReLUTrainingSAEConfig(JumpReLUTrainingSAEConfig):  # type: ignore[misc]  # sae-lens: untyped
    """Training configuration: JumpReLU's, of which only the step loss is used."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry."""
        return "absjumprelu"


class AbsJumpReLUTrainingSAE(JumpReLUTrainingSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Training with sae-lens's straight-through estimators, once for u and once for −u."""

    cfg: AbsJumpReLUTrainingSAEConfig

    def __init__(self, cfg: AbsJumpReLUTrainingSAEConfig, use_error_term: bool = False) -> None:
        super().__init__(cfg, use_error_term)
        self.negative_threshold = nn.Parameter(self.threshold.detach().clone())

    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and pre-activations [tokens, width] of activations [tokens, d_in]."""
        self._project()
        pre = self.hook_sae_acts_pre(self.process_sae_in(x) @ self.W_enc + self.b_enc)
        latents = self._jump(pre, self.threshold) - self._jump(-pre, self.negative_threshold)
        return self.hook_sae_acts_post(latents), pre

    def calculate_aux_loss(
        self, step_input: TrainStepInput, feature_acts: Tensor, hidden_pre: Tensor, sae_out: Tensor
    ) -> dict[str, Tensor]:
        """The mean number of active latents, of either sign, times the coefficient "l0"."""
        active = self._step(hidden_pre, self.threshold) + self._step(-hidden_pre, self.negative_threshold)
        return {"l0_loss": step_input.coefficients["l0"] * active.sum(dim=-1).mean()}

    @torch.no_grad()
    def fold_W_dec_norm(self) -> None:  # noqa: N802 - sae-lens's name
        """Fold decoder norms as sae-lens does, for both thresholds."""
        self._project()
        self.negative_threshold.mul_(self.get_W_dec_norm())
        super().fold_W_dec_norm()

    @torch.no_grad()
    def _project(self) -> None:
        # The optimiser can move a threshold below 0, where both sides of the gate would open at once. A clamp
        # in the graph would give it no gradient there, so it could never recover from 0.
        self.threshold.clamp_(min=0)
        self.negative_threshold.clamp_(min=0)

    def _jump(self, u: Tensor, threshold: Tensor) -> Tensor:
        through = self.cfg.jumprelu_ste_to_input
        jumped: Tensor = StraightThroughJump.apply(u, threshold.to(u.dtype), self.bandwidth, through)
        return jumped

    def _step(self, u: Tensor, threshold: Tensor) -> Tensor:
        through = self.cfg.jumprelu_ste_to_input
        opened: Tensor = StraightThroughStep.apply(u, threshold.to(u.dtype), self.bandwidth, through)
        return opened


register_inference(AbsJumpReLUSAE, AbsJumpReLUSAEConfig)
register_training(AbsJumpReLUTrainingSAE, AbsJumpReLUTrainingSAEConfig)
