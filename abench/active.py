"""The active latents of some tokens, found without writing down the others.

`sae.encode` sorts every token's pre-activations and returns a dense [tokens, width], of which a few entries
in a thousand differ from zero. Here the pre-activations are made a few tokens at a time, so that they stay in
the cache, and their active entries are found by the group maxima of the training steps.
"""

from collections.abc import Callable
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

from abench.steps.codes import SparseCodes
from abench.steps.selection import beyond, top_of_rows
from abench.variants.saes import (
    AbsJumpReLUSAE,
    BatchAbsTopKSAE,
    SignedTopKSAE,
    SignedTopKTrainingSAE,
)
from abench.views import SplitSAE

_ENTRIES_AT_ONCE = {"cpu": 1 << 21, "cuda": 1 << 26}
_LEAST_TOKENS_AT_ONCE = 128
"""Fewer rows than this would read the encoder's weights too often."""

_SPARSE_SHARE, _JUDGED_BY = 1 / 16, 32
"""Largest share of active latents for which sparse sums are taken, and the tokens that tell it."""

Entries = tuple[Tensor, Tensor]
"""Flat indices, in the order of tokens, and values of some entries of [tokens, width]."""


@torch.no_grad()
def active_codes(sae: Any, x: Tensor) -> SparseCodes:
    """The codes of activations x [tokens, d_in] that differ from zero, in float32, as `sae.encode` has them.

    The same latents are active as there, up to rounding of the pre-activations. SAEs of classes that are not
    known here, and those with hooks on their latents, are asked for their dense codes.
    """
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

    Judged by the first tokens.
    """
    few = x[:_JUDGED_BY]
    return len(active_codes(sae, few).values) > _SPARSE_SHARE * len(few) * int(sae.cfg.d_sae)


def firings(codes: SparseCodes) -> tuple[Tensor, Tensor]:
    """On how many tokens each latent is above zero, and below: [latents] each."""
    above, below = codes.values > 0, codes.values < 0
    positive, negative = (
        torch.bincount(codes.columns[each], minlength=codes.width) for each in (above, below)
    )
    return positive, negative


def is_known(sae: Any) -> bool:
    """Whether the active latents of this SAE are found without its own `encode`."""
    # What a hook does to the latents, and what another activation function means, only encode knows.
    return type(sae) in _FINDERS and "encode" not in vars(sae) and not _is_hooked(sae) and _is_usual(sae)


def _finder(sae: Any) -> Callable[[Any, Tensor], Entries]:
    return _FINDERS[type(sae)] if is_known(sae) else _encoded


def _is_hooked(sae: Any) -> bool:
    points = (sae.hook_sae_acts_pre, sae.hook_sae_acts_post)
    return any(point._forward_hooks or point._forward_pre_hooks for point in points)


def _is_usual(sae: Any) -> bool:
    """Whether the activation function is the one its class gives it, and no option changes it."""
    usual, actual = sae.get_activation_fn(), sae.activation_fn
    if isinstance(actual, partial):
        return isinstance(usual, partial) and (actual.func, actual.keywords) == (usual.func, usual.keywords)
    return type(actual) is type(usual) and vars(actual).get("k") == vars(usual).get("k")


def _encoded(sae: Any, x: Tensor) -> Entries:
    codes = sae.encode(x)
    codes = (codes.to_dense() if codes.is_sparse else codes).contiguous().view(-1)
    at = codes.nonzero().squeeze(1)
    return at, codes[at]


def _pre_activations(sae: Any, x: Tensor, bias: Tensor) -> Tensor:
    # Not addmm: product and sum are rounded one after the other, as in encode.
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
    """Columns [tokens, k or k + 1], and which of them torch.topk would choose among equal ones."""
    if k >= u.shape[1]:
        columns = torch.arange(u.shape[1], device=u.device).expand(u.shape)
        return columns, torch.ones_like(columns, dtype=torch.bool)
    # One more than asked for shows whether the border is clear.
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
    # The magnitudes' encoder is the gate's, rescaled: another product would give the same to rounding.
    product = u.view(-1)[at] - sae.b_gate[latent]
    return at, (product * sae.r_mag.exp()[latent] + sae.b_mag[latent]).relu_()


_FINDERS: dict[type, Callable[[Any, Tensor], Entries]] = {
    TopKSAE: partial(_top, rectified=True),
    TopKTrainingSAE: partial(_top, rectified=True),
    AbsTopKSAE: partial(_top, signed=True),
    AbsTopKTrainingSAE: partial(_top, signed=True),
    SignedTopKSAE: _top,
    SignedTopKTrainingSAE: _top,
    StandardSAE: _rectified,
    GatedSAE: _gated,
    JumpReLUSAE: _above_threshold,
    BatchAbsTopKSAE: partial(_above_threshold, signed=True),
    AbsJumpReLUSAE: _outside_thresholds,
}
"""Of these classes exactly: what inherits from them may encode in another way."""
