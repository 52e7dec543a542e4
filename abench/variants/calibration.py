"""The inference threshold of batch-level variants, measured after training instead of averaged during it.

A batch-level variant trains with the k·batch largest values of a batch but uses one threshold at inference,
so that a token's latents do not depend on the other tokens of its batch. sae-lens learns the threshold as a
running mean that starts at 0 with rate 0.01 and no bias correction: after a short run it is far too low, and
L0 far too high.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sae_lens import TrainingSAE

ENTRIES_PER_CHUNK = 2**24
"""Pre-activations in memory at once: 64 MiB of float32."""


def set_threshold(sae: TrainingSAE[Any], activations: Tensor, k: int, *, signed: bool) -> None:
    """Set `sae.topk_threshold` so that on these activations [tokens, d_in] mean L0 at inference is k."""
    sizes = (u.abs() if signed else u for u in rescaled_pre_activations(sae, activations))
    threshold = threshold_for(sizes, count=k * activations.shape[0])
    sae.topk_threshold.fill_(threshold)


@torch.no_grad()
def rescaled_pre_activations(sae: TrainingSAE[Any], activations: Tensor) -> Iterator[Tensor]:
    """Pre-activations times decoder norms, in chunks [tokens, width]: the latents of a unit-norm decoder."""
    norms = sae.W_dec.norm(dim=-1)
    for x in torch.split(activations, max(1, ENTRIES_PER_CHUNK // sae.cfg.d_sae)):
        sae_in = sae.process_sae_in(x.to(sae.device))
        yield (sae_in @ sae.W_enc + sae.b_enc) * norms


@torch.no_grad()
def threshold_for(chunks: Iterable[Tensor], count: int) -> float:
    """The threshold that exactly `count` positive values of a stream exceed, up to ties.

    It is midway between the count-th largest value and the next one; 0 if at most `count` values are
    positive. Exact in one pass: values that cannot be among the largest are dropped on the way, so that
    about 2·count values are in memory.
    """
    kept: list[Tensor] = []
    held, floor = 0, 0.0
    for chunk in chunks:
        kept.append(chunk[chunk > floor])
        held += kept[-1].numel()
        if held > 2 * (count + 1):
            kept = [torch.cat(kept).topk(count + 1, sorted=False).values]
            held, floor = count + 1, float(kept[0].min())
    if held <= count:
        return 0.0
    largest = torch.cat(kept).topk(count + 1, sorted=False).values
    below, above = largest.topk(2, largest=False).values
    middle = (below + above) / 2
    # Between adjacent floats the midpoint rounds to one of them, which must not be the upper one.
    return float(middle if middle < above else below)
