"""The active latents of tokens, found without a dense tensor of all codes.

`sae.encode` sorts every token's pre-activations and returns a dense [tokens, width], of which a few entries
in a thousand are non-zero. Here pre-activations are computed for a few tokens at a time, so that they stay in
the processor's cache, and the active entries are selected by group maxima, as in the training steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from abench.kernels.selection import beyond, top_of_rows
from abench.kernels.sparse_codes import SparseCodes
from abench.latents.anyones import usable
from abench.latents.encoders import GatedRule, JumpRule, RectifiedRule, TopRule, TwoJumpsRule, rule_of
from abench.latents.views import SplitSAE, base_of

_ENTRIES_AT_ONCE = {"cpu": 1 << 21, "cuda": 1 << 26}
_LEAST_TOKENS_AT_ONCE = 128
"""With fewer tokens at once, the encoder's weights would be read too often."""

_SPARSE_SHARE, _JUDGED_BY = 1 / 16, 32
"""Largest share of active latents for which sparse sums are used; number of tokens it is estimated from."""

Entries = tuple[Tensor, Tensor]
"""Flat indices, ordered by token, and values of entries of [tokens, width]."""


@torch.no_grad()
def active_codes(sae: Any, x: Tensor) -> SparseCodes:
    """The non-zero codes of activations x [tokens, d_in], in float32, equal to those of `sae.encode`.

    The same latents are active, up to rounding of the pre-activations. SAEs of unknown classes and SAEs with
    hooks on their latents are encoded densely by their own `encode`.
    """
    sae = usable(sae)
    if isinstance(sae, SplitSAE):
        return _split(active_codes(sae.base, x))
    find = _finder(sae) if len(x) else _encoded
    width = int(sae.cfg.d_sae)
    kind = "cpu" if x.device.type == "cpu" else "cuda"
    size = max(_LEAST_TOKENS_AT_ONCE, _ENTRIES_AT_ONCE[kind] // width)
    flat, values = [], []
    for number, part in enumerate(torch.split(x.to(sae.dtype), size)):
        at, found = find(sae, part)
        different = found != 0
        flat.append(at[different] + number * size * width)
        values.append(found[different].float())
    at = torch.cat(flat)
    counts = torch.bincount(at // width, minlength=len(x))
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    return SparseCodes(torch.cat(values), at % width, offsets, width)


def _split(codes: SparseCodes) -> SparseCodes:
    columns = codes.columns + codes.width * (codes.values < 0)
    return SparseCodes(codes.values.abs(), columns, codes.offsets, 2 * codes.width)


def many_are_active(sae: Any, x: Tensor) -> bool:
    """Whether so many latents are active on x [tokens, d_in] that dense codes are faster.

    Estimated from the first 32 tokens, unless the SAE's rule allows only few active latents per token.
    """
    limit = _SPARSE_SHARE * int(sae.cfg.d_sae)
    if _never_more_than(sae, limit):
        return False
    few = x[:_JUDGED_BY]
    return len(active_codes(sae, few).values) > limit * len(few)


def _never_more_than(sae: Any, limit: float) -> bool:
    """Whether an SAE's rule alone bounds the number of active latents per token by `limit`."""
    base = base_of(usable(sae))
    return is_known(base) and isinstance(rule_of(base), TopRule) and int(base.cfg.k) <= limit


def firings(codes: SparseCodes) -> tuple[Tensor, Tensor]:
    """The number of tokens on which each latent is positive, and negative: two tensors [latents]."""
    above, below = codes.values > 0, codes.values < 0
    positive, negative = (
        torch.bincount(codes.columns[each], minlength=codes.width) for each in (above, below)
    )
    return positive, negative


def is_known(sae: Any) -> bool:
    """Whether the active latents of this SAE can be found without its own `encode`."""
    # Hooks on the latents and replaced activation functions take effect only in encode.
    known = rule_of(sae) is not None and "encode" not in vars(sae)
    return known and not _is_hooked(sae) and _is_usual(sae)


def _finder(sae: Any) -> Callable[[Any, Tensor], Entries]:
    match rule_of(sae) if is_known(sae) else None:
        case TopRule(by_size, rectified):
            return partial(_top, signed=by_size, rectified=rectified)
        case RectifiedRule():
            return _rectified
        case JumpRule(by_size):
            return partial(_above_threshold, signed=by_size)
        case TwoJumpsRule():
            return _outside_thresholds
        case GatedRule():
            return _gated
    return _encoded


def _is_hooked(sae: Any) -> bool:
    points = (sae.hook_sae_acts_pre, sae.hook_sae_acts_post)
    return any(point._forward_hooks or point._forward_pre_hooks for point in points)


def _is_usual(sae: Any) -> bool:
    """Whether the activation function is its class's default with unchanged options."""
    usual, actual = sae.get_activation_fn(), sae.activation_fn
    if isinstance(actual, partial):
        return isinstance(usual, partial) and (actual.func, actual.keywords) == (usual.func, usual.keywords)
    return type(actual) is type(usual) and vars(actual).get("k") == vars(usual).get("k")


def _encoded(sae: Any, x: Tensor) -> Entries:
    codes = sae.encode(x)
    codes = (codes.to_dense() if codes.is_sparse else codes).contiguous().view(-1)
    at = beyond(codes[None], 0.0, signed=True)
    return at, codes[at]


def _pre_activations(sae: Any, x: Tensor, bias: Tensor) -> Tensor:
    # Not addmm: product and sum are rounded separately, as in encode.
    product: Tensor = sae.process_sae_in(x) @ sae.W_enc
    return product.add_(bias)


def _top(sae: Any, x: Tensor, *, signed: bool = False, rectified: bool = False) -> Entries:
    u = _pre_activations(sae, x, sae.b_enc)
    if sae.cfg.rescale_acts_by_decoder_norm:
        u *= sae.W_dec.norm(dim=-1)
    columns, kept = _top_columns(u, int(sae.cfg.k), signed=signed)
    at = (columns + torch.arange(0, u.numel(), u.shape[1], device=u.device)[:, None])[kept]
    values = u.view(-1)[at]
    return at, values.relu_() if rectified else values


def _top_columns(u: Tensor, k: int, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Candidate columns [tokens, k or k + 1], and a mask of the k that torch.topk would select.

    The k + 1 largest entries are found first. If the smallest of them is strictly below the others, it is
    dropped; on a tie, torch.topk decides for that token.
    """
    if k >= u.shape[1]:
        columns = torch.arange(u.shape[1], device=u.device).expand(u.shape)
        return columns, torch.ones_like(columns, dtype=torch.bool)
    # The (k + 1)-th entry shows whether the k-th is tied.
    columns = top_of_rows(u, k + 1, signed=signed)
    size = u.gather(1, columns)
    size = size.abs_() if signed else size
    kept = size != size.amin(1, keepdim=True)
    unclear = (kept.sum(1) != k).nonzero().squeeze(1)
    if len(unclear):
        rows = u[unclear]
        columns[unclear, :k] = (rows.abs_() if signed else rows).topk(k, dim=-1, sorted=False).indices
        kept[unclear] = torch.arange(k + 1, device=u.device) < k
    return columns, kept


def _rectified(sae: Any, x: Tensor) -> Entries:
    u = _pre_activations(sae, x, sae.b_enc)
    at = beyond(u, 0.0, signed=False)
    return at, u.view(-1)[at]


def _above_threshold(sae: Any, x: Tensor, *, signed: bool = False) -> Entries:
    u = _pre_activations(sae, x, sae.b_enc)
    at = beyond(u, max(0.0, float(sae.threshold.min())), signed=signed)
    values = u.view(-1)[at]
    kept = ~((values.abs() if signed else values) <= sae.threshold[at % u.shape[1]])
    return at[kept], values[kept]


def _outside_thresholds(sae: Any, x: Tensor) -> Entries:
    u = _pre_activations(sae, x, sae.b_enc)
    lowest = min(float(sae.threshold.min()), float(sae.negative_threshold.min()))
    at = beyond(u, max(0.0, lowest), signed=True)
    values, latent = u.view(-1)[at], at % u.shape[1]
    kept = ~(values <= sae.threshold[latent]) | (values < -sae.negative_threshold[latent])
    return at[kept], values[kept]


def _gated(sae: Any, x: Tensor) -> Entries:
    u = _pre_activations(sae, x, sae.b_gate)
    at = beyond(u, 0.0, signed=False)
    latent = at % u.shape[1]
    # The magnitude path's encoder is the rescaled gate encoder: a second product would differ in rounding.
    product = u.view(-1)[at] - sae.b_gate[latent]
    return at, (product * sae.r_mag.exp()[latent] + sae.b_mag[latent]).relu_()
