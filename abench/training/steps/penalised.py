"""The common part of the steps of ReLU, Gated and JumpReLU: a penalty that makes latents sparse over time.

Early in training most latents are active and all products are dense. Later few are active, and only the
encoder's forward product is dense. The choice depends on the batch and the weights alone.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from abench.kernels.routes import codes_class
from abench.kernels.scratch import scratch, space
from abench.kernels.selection import positive
from abench.kernels.sparse_codes import Codes, DenseCodes
from abench.training.steps.base import DerivedStep, StepResult

SPARSE_SHARE = 1 / 16
"""Largest share of entries for which the sparse products are faster."""

CHUNK = 2**22
"""Entries per dense product on a CPU, so that intermediate results stay in the processor's cache."""


@dataclass(frozen=True)
class Part:
    """A part of a batch."""

    codes: Codes
    batch: Tensor
    """Activations of its tokens, [tokens, d_in]."""
    centred: Tensor
    """The encoder's input for its tokens, [tokens, d_in]."""
    first: bool
    """Whether to overwrite the weights' gradients instead of adding to them."""


@dataclass
class Sums:
    """Sums over the tokens of a batch, divided by the number of tokens."""

    norms: Tensor
    """Norms of the decoder's rows, [width]."""
    tokens: int
    weight: float
    """The penalty's coefficient divided by the number of tokens."""
    loss: float = 0.0
    mse: float = 0.0
    inputs: Tensor = field(init=False)
    """Gradient of the pre-activations, summed over tokens, [width]."""
    norm_slopes: Tensor = field(init=False)
    """Gradient of the decoder's norms, [width]."""
    active: Tensor = field(init=False)
    """Number of tokens on which each latent is active, [width]."""

    def __post_init__(self) -> None:
        self.inputs, self.norm_slopes, self.active = (torch.zeros_like(self.norms) for _ in range(3))


class PenalisedStep(DerivedStep):
    """A step on the entries whose pre-activation, plus a variant-specific shift, is above 0.

    All other latents are 0 and have no gradient.
    """

    @abstractmethod
    def encoder_bias(self) -> Tensor:
        """The bias [width] to add to the encoder's product so that only entries above 0 matter."""

    @abstractmethod
    def descend_on(self, part: Part, sums: Sums) -> None:
        """Add the loss and the gradients of a part of the batch."""

    @abstractmethod
    def finish(self, u: Tensor, centred: Tensor, dead: Tensor, sums: Sums) -> None:
        """Add terms that do not depend on the active entries, and gradients that follow from the sums."""

    def descend(self, batch: Tensor, coefficients: Mapping[str, float], dead: Tensor) -> StepResult:
        """See DerivedStep."""
        sae = self.sae
        (coefficient,) = coefficients.values()
        centred = self.centred(batch)
        sums = Sums(sae.W_dec.norm(dim=1), len(batch), coefficient / len(batch))
        out = scratch("pre-activations", len(batch), sae.cfg.d_sae, like=batch)
        u = torch.addmm(self.encoder_bias(), centred, sae.W_enc, out=out)
        for part in _parts(u, batch, centred):
            self.descend_on(part, sums)
        self.finish(u, centred, dead, sums)
        self.subtract_input_bias(sums.inputs)
        # ∂‖w‖/∂w = w / ‖w‖, and 0 at w = 0.
        self.gradients["W_dec"].addcmul_(sae.W_dec, (sums.norm_slopes / sums.norms.clamp_min(1e-30))[:, None])
        return StepResult(
            sums.loss + sums.mse, sums.mse, float(sums.active.sum()) / len(batch), sums.active > 0
        )

    def reconstruct(self, part: Part, values: Tensor, sums: Sums) -> tuple[float, Tensor]:
        """The squared error of the reconstruction from values, and its gradient [tokens, d_in].

        Adds the gradient of the decoder's bias.
        """
        residual = part.codes.decode(values, self.sae.W_dec).add_(self.sae.b_dec).sub_(part.batch)
        error = float(residual.square().sum()) / sums.tokens
        slope = residual.mul_(2 / sums.tokens)
        self.gradients["b_dec"] += slope.sum(0)
        return error, slope

    def encode_backward(self, part: Part, slope: Tensor, sums: Sums) -> None:
        """Add the encoder's gradients, given the gradient of the pre-activations as values."""
        part.codes.add_inner(part.centred, slope, self.gradients["W_enc"], first=part.first)
        sums.inputs += part.codes.sum(slope)


def rectified(values: Tensor, *, name: str) -> Tensor:
    """The positive parts, in the shared buffer of that name."""
    return torch.clamp_min(values, 0, out=space(name, values))


def indicator(values: Tensor, above: float, *, name: str = "indicator") -> Tensor:
    """1 where a value is above a number, 0 elsewhere, in the shared buffer of that name.

    Numbers, because summing them is 20 times faster than counting Booleans.
    """
    return torch.gt(values, above, out=space(name, values))


def _parts(u: Tensor, batch: Tensor, centred: Tensor) -> Iterator[Part]:
    entries = positive(u, SPARSE_SHARE)
    if entries is not None:
        yield Part(codes_class(u.device).at(u, entries), batch, centred, first=True)
        return
    rows = len(u) if u.is_cuda else max(1, CHUNK // u.shape[1])
    for i in range(0, len(u), rows):
        yield Part(DenseCodes(u[i : i + rows]), batch[i : i + rows], centred[i : i + rows], first=i == 0)
