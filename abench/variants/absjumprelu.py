"""Two-sided JumpReLU: a learned threshold for either sign of every latent, L0 penalised."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from sae_lens import JumpReLUSAE, JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, SAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLU as StraightThroughJump
from sae_lens.saes.jumprelu_sae import Step as StraightThroughStep
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor, nn

from abench.variants.architectures import register_inference, register_training
from abench.variants.base import Penalised, SAEShape


def abs_jump_relu(u: Tensor, above: float | Tensor, below: float | Tensor) -> Tensor:
    """u where u > above or u < −below, 0 elsewhere, for thresholds of at least 0.

    The proximal operator of R(z) = Σᵢ λᵢ⁺[zᵢ > 0] + λᵢ⁻[zᵢ < 0] for above = √(2λ⁺) and below = √(2λ⁻):
    keeping a coordinate costs the λ of its sign and saves ½u², and the other sign never pays. With both
    thresholds √(2λ) it is that of λ‖z‖₀, JumpReLU's regulariser without its sign constraint (paper, Lemma 1).
    At a threshold both choices cost the same.
    """
    return u * ((u > above) | (u < -below))


@dataclass
class AbsJumpReLUSAEConfig(SAEConfig):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference configuration; the thresholds are among the weights."""

    @classmethod
    def architecture(cls) -> str:
        """The name in sae-lens's registry and in cfg.json."""
        return "absjumprelu"


class AbsJumpReLUSAE(JumpReLUSAE):  # type: ignore[misc]  # sae-lens counts as untyped here
    """Inference: `threshold` for positive, `negative_threshold` for negative latents, both [width]."""

    cfg: AbsJumpReLUSAEConfig

    def initialize_weights(self) -> None:
        """sae-lens's weights and the second threshold."""
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
        """sae-lens's fold, for both thresholds."""
        self.negative_threshold.mul_(self.get_W_dec_norm())
        super().fold_W_dec_norm()


@dataclass
class AbsJumpReLUTrainingSAEConfig(JumpReLUTrainingSAEConfig):  # type: ignore[misc]  # sae-lens: untyped
    """Training configuration: JumpReLU's, of which the step loss alone is used."""

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
        """sae-lens's fold, for both thresholds."""
        self._project()
        self.negative_threshold.mul_(self.get_W_dec_norm())
        super().fold_W_dec_norm()

    @torch.no_grad()
    def _project(self) -> None:
        # The optimiser can take a threshold below 0, where both sides of the gate would open at once. A clamp
        # in the graph would give it no gradient there, and it could never leave 0 again.
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


class AbsJumpReLU(Penalised):
    """The two-sided JumpReLU SAE: thresholds of both signs learned through a straight-through estimator.

    The paper's future work. The activation is the Bi-Jump-ReLU of Wieciech et al. (arXiv 2605.28149), who
    train it inside a gated SAE with an auxiliary reconstruction; here it is trained as JumpReLU is. The
    defaults are JumpReLU's.
    """

    name: ClassVar[str] = "absjumprelu"
    title: ClassVar[str] = "AbsJumpReLU"
    signed: ClassVar[bool] = True
    regulariser: ClassVar[str] = "R(z) = Σᵢ λᵢ⁺·[zᵢ > 0] + λᵢ⁻·[zᵢ < 0], λ learned"
    penalty: ClassVar[str] = "l0"
    starting_coefficient: ClassVar[float] = 0.1

    initial_threshold: float = Field(default=1.0, ge=0, le=1e6)
    """Both thresholds of every latent at the start, in units of the pre-activation's initial spread."""

    bandwidth: float = Field(default=1.0, gt=0, le=1e6)
    """Width of the window around a threshold in which the straight-through estimator has a gradient."""

    train_encoder_through_gate: bool = True
    """Whether the estimator's gradient also reaches the encoder, or only the thresholds."""

    def training_config(self, shape: SAEShape) -> AbsJumpReLUTrainingSAEConfig:
        """The "absjumprelu" architecture, which this module adds to sae-lens."""
        return AbsJumpReLUTrainingSAEConfig(
            **shape.common(),
            decoder_init_norm=self.decoder_init_norm,
            jumprelu_init_threshold=self.initial_threshold,
            jumprelu_bandwidth=self.bandwidth,
            jumprelu_ste_to_input=self.train_encoder_through_gate,
            l0_coefficient=self.initial_coefficient(),
        )


register_inference(AbsJumpReLUSAE, AbsJumpReLUSAEConfig)
register_training(AbsJumpReLUTrainingSAE, AbsJumpReLUTrainingSAEConfig)
