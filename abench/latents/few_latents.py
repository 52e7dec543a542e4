"""The codes of selected latents, without encoding all of them.

If latents are independent of each other (ReLU, JumpReLU, gated), one column of the encoder is enough. If the
k largest pre-activations of a token are selected, latents are screened (`_screened`): a latent is certainly
not selected if at least k latents in a fixed part of the dictionary exceed it; only otherwise are all
latents that exceed it counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from abench.errors import UserError
from abench.latents.anyones import usable
from abench.latents.decoding import in_residual_units
from abench.latents.encoders import GatedRule, JumpRule, RectifiedRule, TopRule, TwoJumpsRule, rule_of
from abench.latents.parts import dense_parts
from abench.latents.views import SplitSAE
from abench.variants import abs_jump_relu, two_sided_jump

_SCREENED = 8
"""Screening compares with the first 1/8 of the latents."""
_LEAST_SCREENED = 4
"""... but with at least 4 · k of them; among fewer, k would rarely exceed a latent."""
_MOST_SCREENED = 4
"""For more latents at once, screening takes longer than encoding in full."""


def latent_codes(sae: Any, x: Tensor, latent: int) -> Tensor:
    """One latent's codes [tokens] of activations x [tokens, d_in], in units of the residual stream.

    Column `latent` of `abench.residual_codes(sae, x)`, at a fraction of its cost. Equal up to rounding, which
    can also decide whether a latent at its threshold is active; an SAE of an unknown class is encoded in
    full. Hook points inside the SAE are not called. Raises UserError if the SAE has no such latent.
    """
    sae = usable(sae)
    check_latents(sae, [latent])
    return residual_codes_of(sae, x, [latent])[:, 0]


def residual_codes_of(sae: Any, x: Tensor, latents: Sequence[int]) -> Tensor:
    """The codes of selected latents in units of the residual stream, [tokens, latents given]."""
    return in_residual_units(sae, x, codes_of(sae, x, latents), latents)


def codes_of(sae: Any, x: Tensor, latents: Sequence[int]) -> Tensor:
    """The codes of selected latents, equal to those of `sae.encode`, [tokens, latents given]."""
    if isinstance(sae, SplitSAE):
        width = int(sae.base.cfg.d_sae)
        codes = codes_of(sae.base, x, [latent % width for latent in latents])
        signs = codes.new_tensor([1.0 if latent < width else -1.0 for latent in latents])
        return (codes * signs).clamp_min(0)
    return _encoder(sae)(sae, x, list(latents))


def _encoder(sae: Any) -> Callable[[Any, Tensor, list[int]], Tensor]:
    match rule_of(sae):
        case TopRule(by_size, rectified):
            return partial(_screened, by_size=by_size, rectified=rectified)
        case RectifiedRule():
            return _rectified
        case JumpRule(by_size):
            return _jumping_by_size if by_size else _jumping
        case TwoJumpsRule():
            return _jumping_both_ways
        case GatedRule():
            return _gated
    return _all


def check_latents(sae: Any, latents: Sequence[int]) -> None:
    """Raise UserError for a latent that the SAE does not have."""
    for latent in latents:
        if not 0 <= latent < sae.cfg.d_sae:
            raise UserError(f"no latent {latent}: the SAE has {sae.cfg.d_sae} latents, counted from 0")


def _all(sae: Any, x: Tensor, latents: list[int]) -> Tensor:
    # In parts, because all codes of a long batch can need more memory than its activations by far.
    parts = [sae.encode(part.to(sae.dtype))[:, latents] for part in dense_parts(sae, x)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


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
    """Codes [tokens, latents given] of an SAE that keeps each token's k largest pre-activations.

    "Largest" is by absolute value if `by_size`, else by value. Most latents are not among the k largest on
    most tokens, which a comparison with the first 1/8 of the dictionary usually proves. Example: width 64 and
    k = 2, so latent 40 is screened against latents 0 to 7, max(64 / 8, 4 · 2) = 8 of them:

        token   own value   larger among the first 8   larger among all 64   code
          0        0.5                3                   (not computed)      0: at least k are larger
          1        2.0                0                          1            2.0: one of the 2 largest
          2        1.0                1                          4            0
          3        1.0                0                1, and one is equal    decided by sae.encode

    Only tokens 1 to 3 are compared with the whole dictionary. Token 3 is a tie up to rounding, with 1 or 2
    larger latents: `_Ranked.possible` holds but `_Ranked.certain` does not.
    """
    k, width = int(sae.cfg.k), int(sae.cfg.d_sae)
    part = max(width // _SCREENED, _LEAST_SCREENED * k)
    if len(latents) > _MOST_SCREENED or 2 * part > width:
        return _all(sae, x, latents)
    sae_in: Tensor = sae.process_sae_in(x)
    pre = _pre_activations(sae, sae_in, latents)
    codes = pre.new_zeros(pre.shape)
    with torch.no_grad():
        ranked = _Ranked.of(sae, sae_in, pre, latents, by_size)
        # The first latents rather than every eighth: a slice of the encoder needs no copy.
        some = ranked.others(sae, sae_in, slice(part))
        rows = ranked.possible(some, k).any(-1).nonzero().squeeze(-1)
        if len(rows) == 0:
            return codes
        ranked, every = ranked.at(rows), ranked.others(sae, sae_in[rows], slice(None))
        possible = ranked.possible(every, k)
        close = rows[(possible & ~ranked.certain(every, k)).any(-1)]
    kept = pre[rows].relu() if rectified else pre[rows]
    codes = codes.index_copy(0, rows, kept * possible)
    # The SAE itself decides close cases, so that equal pre-activations are treated as in its own encode.
    return codes.index_copy(0, close, _all(sae, x[close], latents)) if len(close) else codes


@dataclass(frozen=True)
class _Ranked:
    """The values that n latents are ranked by, [tokens, n], and a bound on their rounding error.

    Example with k = 2, one latent with the value 1.0, and a slack of 0.001. The latent is possibly among the
    k largest if fewer than k values exceed 1.001, and certainly if at most k exceed 0.999, since the latent's
    own value is one of those:

        all values                    above 1.001   above 0.999   possible   certain
        3.0, 1.0, 0.4, 0.2                 1             2           yes       yes      among the 2 largest
        3.0, 2.0, 1.0, 0.4                 2             3           no                 not among them
        3.0, 1.0, 1.0005, 0.4              1             3           yes       no       the SAE decides
    """

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
        """The values that other latents are ranked by, [tokens, others]."""
        pre = _pre_activations(sae, sae_in, which)
        return pre.abs_() if self.by_size else pre

    def possible(self, others: Tensor, k: int) -> Tensor:
        """Mask [tokens, n]: compared with these `others`, the latent may be among the k largest."""
        # Counting is faster than sorting.
        return _above(others, self.own + self.slack) < k

    def certain(self, others: Tensor, k: int) -> Tensor:
        """Mask [tokens, n]: a possible latent is certainly among the k largest; `others` are all latents."""
        # The latents themselves are among the others, and a latent exceeds its own lower bound: hence <= k.
        return _above(others, self.own - self.slack) <= k


def _above(values: Tensor, bounds: Tensor) -> Tensor:
    """The number of values [tokens, any] that exceed each of the bounds [tokens, n], as [tokens, n]."""
    return torch.stack([(values > bound[:, None]).count_nonzero(-1) for bound in bounds.unbind(-1)], dim=-1)


def _rounding(sae: Any, sae_in: Tensor, own: Tensor, latents: list[int]) -> Tensor:
    """An upper bound, shaped like `own`, on the rounding difference between partial and full products."""
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
    """Whether the SAE multiplies pre-activations by decoder norms, as if decoder rows had norm 1."""
    return bool(getattr(sae.cfg, "rescale_acts_by_decoder_norm", False))


def _columns(values: Tensor, latents: Sequence[int] | slice) -> Tensor:
    """The latents' columns of values [..., width]; a view if possible."""
    if isinstance(latents, slice):
        return values[..., latents]
    return values[..., latents[0] : latents[0] + 1] if len(latents) == 1 else values[..., list(latents)]
