"""What the steps of ReLU, Gated and JumpReLU share: a penalty, and latents that are sparse once it works.

Early in training most latents are active and all products are dense; later few are, and the encoder's forward
product is the only dense one left. Which way is taken depends on the batch and the weights alone.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from abench.steps.base import DerivedStep, StepResult
from abench.steps.codes import Codes, DenseCodes
from abench.steps.routes import codes_class
from abench.steps.scratch import scratch, space
from abench.steps.selection import positive

SPARSE_SHARE = 1 / 16
"""Up to this share of entries the sparse products are faster."""

CHUNK = 2**22
"""Entries that dense products are made of at once on a CPU: what is computed of them stays in the cache."""


@dataclass(frozen=True)
class Part:
    """Some tokens of a batch."""

    codes: Codes
    batch: Tensor
    """Their activations: [tokens, d_in]."""
    centred: Tensor
    """What the encoder read of them: [tokens, d_in]."""
    first: bool
    """Whether the weights' gradients are to be overwritten, not added to."""


@dataclass
class Sums:
    """Sums over the tokens of a batch, divided by their number."""

    norms: Tensor
    """The decoder's norms [width]."""
    tokens: int
    weight: float
    """The penalty's coefficient divided by the number of tokens."""
    loss: float = 0.0
    mse: float = 0.0
    inputs: Tensor = field(init=False)
    """The gradient of the pre-activations: [width]."""
    norm_slopes: Tensor = field(init=False)
    """The gradient of the decoder's norms: [width]."""
    active: Tensor = field(init=False)
    """How many tokens a latent is active on: [width]."""

    def __post_init__(self) -> None:
        self.inputs, self.norm_slopes, self.active = (torch.zeros_like(self.norms) for _ in range(3))


class PenalisedStep(DerivedStep):
    """A step on the entries where the pre-activation, shifted as the variant needs it, is above 0.

    Elsewhere latents are 0 and nothing has a gradient.
    """

    @abstractmethod
    def encoder_bias(self) -> Tensor:
        """What to add to the encoder's product so that only entries above 0 matter: [width]."""

    @abstractmethod
    def descend_on(self, part: Part, sums: Sums) -> None:
        """Add the loss and the gradients of some tokens."""

    @abstractmethod
    def finish(self, u: Tensor, centred: Tensor, dead: Tensor, sums: Sums) -> None:
        """Add what does not depend on the active entries, and the gradients that are sums by now."""

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

        Of the gradients, those of the decoder and of its bias are added here.
        """
        residual = part.codes.decode(values, self.sae.W_dec).add_(self.sae.b_dec).sub_(part.batch)
        error = float(residual.square().sum()) / sums.tokens
        slope = residual.mul_(2 / sums.tokens)
        self.gradients["b_dec"] += slope.sum(0)
        return error, slope

    def encode_backward(self, part: Part, slope: Tensor, sums: Sums) -> None:
        """Add the encoder's gradients from that of the pre-activations, given as values."""
        part.codes.add_inner(part.centred, slope, self.gradients["W_enc"], first=part.first)
        sums.inputs += part.codes.sum(slope)


def rectified(values: Tensor, *, name: str) -> Tensor:
    """The positive parts, in work space of that name."""
    return torch.clamp_min(values, 0, out=space(name, values))


def indicator(values: Tensor, above: float, *, name: str = "indicator") -> Tensor:
    """1 where a value is above a number, 0 elsewhere, in work space of that name.

    Numbers, because they are summed 20 times faster than booleans are counted.
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
