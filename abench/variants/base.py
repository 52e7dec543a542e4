"""Base classes of variants: a regulariser, its proximal operator, and the SAE built on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field

if TYPE_CHECKING:
    from sae_lens import SAE, TrainingSAE, TrainingSAEConfig
    from torch import Tensor

from abench.config.spec import Spec
from abench.identity import code_identity


@dataclass(frozen=True)
class SAEShape:
    """The sizes that every variant needs."""

    d_in: int
    """Width of the residual stream."""
    width: int
    """Number of latents (sae-lens's d_sae)."""
    k: int
    """Active latents per token: exactly, on average over a batch, or as the sparsity penalty's target."""
    device: str = "cpu"

    def common(self) -> dict[str, Any]:
        """The arguments of the shape that every sae-lens training configuration takes."""
        return {"d_in": self.d_in, "d_sae": self.width, "device": self.device}


class Variant(Spec, ABC):
    """A regulariser R, its proximal operator, and how the SAE built on it is trained and used.

    The encoder of an SAE is one proximal gradient step for ½‖x − (W_dec z + b)‖² + λR(z) from z = 0, so
    choosing R means choosing the activation function (paper, section 2 and Lemma 1). A subclass states R,
    implements the operator as a pure function of its module and returns the sae-lens training configuration;
    its fields are the variant's options.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: ClassVar[str]
    title: ClassVar[str]
    """Name in tables and figures."""
    signed: ClassVar[bool] = False
    """Whether latents can be negative, so that one latent has two poles."""
    regulariser: ClassVar[str]
    """R(z), as one line of mathematics."""
    penalty: ClassVar[str | None] = None
    """Name of the sae-lens loss coefficient that controls sparsity; None if the operator enforces k."""
    flippable: ClassVar[bool] = True
    """Whether flipping a signed latent in encoder and decoder leaves the function unchanged; False for a
    control whose latents are selected by value."""
    estimated_gradients: ClassVar[tuple[str, ...]] = ()
    """Parameters whose gradient is by design not the derivative of the loss: straight-through estimators,
    stopped gradients."""
    version: ClassVar[str | None] = None
    """For a variant that does not come with abench: raise it whenever its code gives other SAEs. Without it,
    keys contain a hash of the code, and any change of the code trains its SAEs again."""

    # Unit rows, as in the paper's code. With sae-lens's 0.1, latents start at a hundredth of their final
    # size: after 800 steps at 256 latents, 45-65 % of them were dead, compared to 0-2 % with unit rows.
    decoder_init_norm: float = Field(default=1.0, gt=0, le=1e6)
    """Initial norm of every decoder row; the encoder starts as the decoder's transpose."""

    def recorded(self) -> dict[str, Any]:
        """Name, options and, unless the variant comes with abench, its version or code: part of every key.

        Raises UserError if there is no version and the code is in no file.
        """
        return {"name": self.name, **self.model_dump(mode="json"), **code_identity(type(self))}

    @abstractmethod
    def training_config(self, shape: SAEShape) -> TrainingSAEConfig:
        """The sae-lens configuration of the training SAE."""

    def build(self, shape: SAEShape, seed: int) -> TrainingSAE[Any]:
        """A freshly initialised training SAE; the same seed gives the same weights on every device.

        Raises ValueError if k is not between 1 and the width (exclusive), or if the SAE normalises its input
        itself: training already normalises it, and the saved SAE accounts for that alone.
        """
        if not 0 < shape.k < shape.width:
            raise ValueError(f"k must be between 1 and the width {shape.width} (exclusive), got {shape.k}")
        import torch

        config = self.training_config(replace(shape, device="cpu"))
        from sae_lens import TrainingSAE

        sae_class = TrainingSAE.get_sae_class_for_architecture(config.architecture())
        # Weights are drawn on the CPU, so only its generator needs guarding; torch.manual_seed would
        # reseed the accelerators as well.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            sae = sae_class(config)
        from abench.variants.normalisation import input_normalisation

        if (kind := input_normalisation(sae)) != "none":
            raise ValueError(
                f"the variant {self.name} normalises its input itself ({kind}): leave that to the option "
                "training.normalisation"
            )
        return sae.to(shape.device)

    def flip(self, sae: SAE[Any], latents: Tensor) -> None:
        """Flip the sign of latents [n] of an inference SAE in place, without changing its function.

        Override it if the SAE has parameters for one sign of a latent.
        """
        for weights, axis in ((sae.W_enc, 1), (sae.b_enc, 0), (sae.W_dec, 0)):
            weights.index_copy_(axis, latents, -weights.index_select(axis, latents))

    def calibrate(self, sae: TrainingSAE[Any], activations: Tensor, k: int) -> None:
        """Set what inference needs in addition to the weights (a threshold), from activations [tokens, d_in].

        The activations are normalised as in training. Most variants need nothing.
        """
        return


class Penalised(Variant):
    """A variant with a sparsity penalty in the loss; `L0Controller` sets the penalty's weight."""

    penalty: ClassVar[str]
    starting_coefficient: ClassVar[float]
    """Initial value of the adapted coefficient: low, because a high initial value kills latents."""

    coefficient: float | None = Field(default=None, ge=0, le=1e6)
    """Weight of the sparsity penalty relative to the squared error summed over d_in; None adapts it to k."""

    def initial_coefficient(self) -> float:
        """The weight at the first step."""
        return self.starting_coefficient if self.coefficient is None else self.coefficient


class Selecting(Variant, ABC):
    """A variant that keeps the k latents of largest rank, per token or on average over a batch."""

    aux_loss_coefficient: float = Field(default=1.0, ge=0, le=1e6)
    """Weight of the loss that makes dead latents reconstruct the error of the alive ones."""

    def selection(self, shape: SAEShape) -> dict[str, Any]:
        """The arguments common to sae-lens's training configurations of this family."""
        return shape.common() | {
            "k": shape.k,
            "decoder_init_norm": self.decoder_init_norm,
            "aux_loss_coefficient": self.aux_loss_coefficient,
        }
