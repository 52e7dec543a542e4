"""The codes of a few latents, without encoding all of them.

Where every latent is by itself (ReLU, JumpReLU, gated), a column of the encoder is enough. Where the k
largest of a token are chosen, a latent is surely not among them if k others of a fixed part of the
dictionary exceed it; only where that leaves a doubt are all others counted that exceed it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from sae_lens import (
    AbsTopKSAE,
    AbsTopKTrainingSAE,
    GatedSAE,
    JumpReLUSAE,
    StandardSAE,
    TopKSAE,
    TopKTrainingSAE,
)
from torch import Tensor

from abench.decoding import in_residual_units
from abench.errors import UserError
from abench.variants import abs_jump_relu, two_sided_jump
from abench.variants.saes import (
    AbsJumpReLUSAE,
    BatchAbsTopKSAE,
    SignedTopKSAE,
    SignedTopKTrainingSAE,
)
from abench.views import SplitSAE

_SCREENED = 8
"""One latent in so many is asked whether it exceeds the one in question."""
_LEAST_SCREENED = 4
"""Times k; with fewer, k of them would seldom exceed a latent."""
_MOST_SCREENED = 4
"""For more latents at once, screening each takes longer than encoding whole."""


def latent_codes(sae: Any, x: Tensor, latent: int) -> Tensor:
    """The codes of one latent, [tokens], of activations [tokens, d_in], in units of the residual stream.

    Column `latent` of `abench.residual_codes(sae, x)`, at a fraction of its cost. Equal up to rounding, which
    can also decide at a threshold; an SAE of an unknown class encodes whole. Hook points inside the SAE are
    not called. Raises UserError if the SAE has no such latent.
    """
    check_latents(sae, [latent])
    return residual_codes_of(sae, x, [latent])[:, 0]


def residual_codes_of(sae: Any, x: Tensor, latents: Sequence[int]) -> Tensor:
    """The codes of some latents in units of the residual stream, [tokens, latents given]."""
    return in_residual_units(sae, x, codes_of(sae, x, latents), latents)


def codes_of(sae: Any, x: Tensor, latents: Sequence[int]) -> Tensor:
    """The codes of some latents as `sae.encode` has them, [tokens, latents given]."""
    if isinstance(sae, SplitSAE):
        width = int(sae.base.cfg.d_sae)
        codes = codes_of(sae.base, x, [latent % width for latent in latents])
        return (codes * _signs(latents, width, codes)).clamp_min(0)
    few = _FEW.get(type(sae), _all)
    return few(sae, x, list(latents))


def check_latents(sae: Any, latents: Sequence[int]) -> None:
    """Raises UserError for a number that is no latent's."""
    for latent in latents:
        if not 0 <= latent < sae.cfg.d_sae:
            raise UserError(f"the SAE has {sae.cfg.d_sae} latents, counted from 0: no latent {latent}")


def _all(sae: Any, x: Tensor, latents: list[int]) -> Tensor:
    codes: Tensor = sae.encode(x.to(sae.dtype))[:, latents]
    return codes


def _rectified(sae: Any, x: Tensor, latents: list[int]) -> Tensor:
    return _pre_activations(sae, sae.process_sae_in(x), latents).relu()


def _jumping(sae: Any, x: Tensor, latents: list[int]) -> Tensor:
    pre = _pre_activations(sae, sae.process_sae_in(x), latents)
    return pre.relu() * (pre > _columns(sae.threshold, latents))


def _jumping_both_ways(sae: Any, x: Tensor, latents: list[int]) -> Tensor:
    above, below = (_columns(each, latents) for each in (sae.threshold, sae.negative_threshold))
    return abs_jump_relu(_pre_activations(sae, sae.process_sae_in(x), latents), above, below)


def _jumping_by_size(sae: Any, x: Tensor, latents: list[int]) -> Tensor:
    pre = _pre_activations(sae, sae.process_sae_in(x), latents)
    return two_sided_jump(pre, _columns(sae.threshold, latents))


def _gated(sae: Any, x: Tensor, latents: list[int]) -> Tensor:
    weights = (sae.W_enc, sae.b_gate, sae.r_mag, sae.b_mag)
    columns, b_gate, r_mag, b_mag = (_columns(each, latents) for each in weights)
    sae_in: Tensor = sae.process_sae_in(x)
    magnitudes: Tensor = (sae_in @ (columns * r_mag.exp()) + b_mag).relu()
    return magnitudes * (sae_in @ columns + b_gate > 0)


def _screened(
    sae: Any, x: Tensor, latents: list[int], *, by_size: bool = False, rectified: bool = False
) -> Tensor:
    """Codes where the k largest pre-activations are kept, those largest `by_size` or in value."""
    k, width = int(sae.cfg.k), int(sae.cfg.d_sae)
    part = max(width // _SCREENED, _LEAST_SCREENED * k)
    if len(latents) > _MOST_SCREENED or 2 * part > width:
        return _all(sae, x, latents)
    sae_in: Tensor = sae.process_sae_in(x)
    pre = _pre_activations(sae, sae_in, latents)
    codes = pre.new_zeros(pre.shape)
    with torch.no_grad():
        ranked = _Ranked.of(sae, sae_in, pre, latents, by_size)
        # The first ones rather than every eighth: as a slice of the encoder they need no copy.
        some = ranked.others(sae, sae_in, slice(part))
        rows = ranked.possible(some, k).any(-1).nonzero().squeeze(-1)
        if len(rows) == 0:
            return codes
        ranked, every = ranked.at(rows), ranked.others(sae, sae_in[rows], slice(None))
        possible = ranked.possible(every, k)
        close = rows[(possible & ~ranked.certain(every, k)).any(-1)]
    kept = pre[rows].relu() if rectified else pre[rows]
    codes = codes.index_copy(0, rows, kept * possible)
    # The SAE itself decides there, so that equal pre-activations are treated as it treats them.
    return codes.index_copy(0, close, _all(sae, x[close], latents)) if len(close) else codes


@dataclass(frozen=True)
class _Ranked:
    """What some latents are ranked by, [tokens, n], and by how much rounding may move it."""

    own: Tensor
    slack: Tensor
    by_size: bool

    @classmethod
    @torch.no_grad()
    def of(cls, sae: Any, sae_in: Tensor, pre: Tensor, latents: list[int], by_size: bool) -> "_Ranked":
        own = pre.abs() if by_size else pre
        return cls(own, _rounding(sae, sae_in, own, latents), by_size)

    def at(self, rows: Tensor) -> "_Ranked":
        return _Ranked(self.own[rows], self.slack[rows], self.by_size)

    def others(self, sae: Any, sae_in: Tensor, which: slice) -> Tensor:
        """What others are ranked by, [tokens, others]."""
        pre = _pre_activations(sae, sae_in, which)
        return pre.abs_() if self.by_size else pre

    def possible(self, others: Tensor, k: int) -> Tensor:
        """Where the latents may be among the k highest, going by these others."""
        # Sorting them would take longer than counting those above.
        return _above(others, self.own + self.slack) < k

    def certain(self, others: Tensor, k: int) -> Tensor:
        """Where the possible ones surely are, if the others are all there are, the latents included."""
        # A latent may count as above itself here, which is why k are allowed.
        return _above(others, self.own - self.slack) <= k


def _above(values: Tensor, bounds: Tensor) -> Tensor:
    """How many of values [tokens, any] exceed each of bounds [tokens, n], as [tokens, n]."""
    return torch.stack([(values > bound[:, None]).count_nonzero(-1) for bound in bounds.unbind(-1)], dim=-1)


def _rounding(sae: Any, sae_in: Tensor, own: Tensor, latents: list[int]) -> Tensor:
    """More than pre-activations differ between products with a part and with all of the encoder, as `own`."""
    columns = _columns(sae.W_enc, latents).norm(dim=0) * _factors(sae, latents)
    summed = 8 * torch.finfo(torch.float32).eps * sae_in.norm(dim=-1, keepdim=True) * columns
    rounded: Tensor = summed + 2 * torch.finfo(own.dtype).eps * own.abs()
    return rounded


def _pre_activations(sae: Any, sae_in: Tensor, latents: list[int] | slice) -> Tensor:
    pre: Tensor = torch.addmm(_columns(sae.b_enc, latents), sae_in, _columns(sae.W_enc, latents))
    return pre * _factors(sae, latents) if _ranks_by_norm(sae) else pre


def _factors(sae: Any, latents: list[int] | slice) -> Tensor | float:
    if not _ranks_by_norm(sae):
        return 1.0
    norms: Tensor = _columns(sae.W_dec.T, latents).norm(dim=0)
    return norms


def _ranks_by_norm(sae: Any) -> bool:
    """Whether codes are in units of a decoder with rows of norm 1."""
    return bool(getattr(sae.cfg, "rescale_acts_by_decoder_norm", False))


def _columns(values: Tensor, latents: Sequence[int] | slice) -> Tensor:
    """The latents' part of values [..., width]; a view where that can be."""
    if isinstance(latents, slice):
        return values[..., latents]
    return values[..., latents[0] : latents[0] + 1] if len(latents) == 1 else values[..., list(latents)]


def _signs(latents: Sequence[int], width: int, like: Tensor) -> Tensor:
    """1 for the positive poles of a split SAE, −1 for the negative ones, [latents given]."""
    return like.new_tensor([1.0 if latent < width else -1.0 for latent in latents])


_FEW: dict[type[Any], Callable[[Any, Tensor, list[int]], Tensor]] = {
    StandardSAE: _rectified,
    JumpReLUSAE: _jumping,
    AbsJumpReLUSAE: _jumping_both_ways,
    BatchAbsTopKSAE: _jumping_by_size,
    GatedSAE: _gated,
    TopKSAE: partial(_screened, rectified=True),
    TopKTrainingSAE: partial(_screened, rectified=True),
    SignedTopKSAE: _screened,
    SignedTopKTrainingSAE: _screened,
    AbsTopKSAE: partial(_screened, by_size=True),
    AbsTopKTrainingSAE: partial(_screened, by_size=True),
}
"""By exact class: a subclass may encode in any other way."""
