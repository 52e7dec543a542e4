"""How an SAE uses its latents: which are dead, which are two-sided, and which have an antipode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abench import Skip

if TYPE_CHECKING:
    from torch import Tensor

TWO_SIDED_SHARE = 0.05
"""A latent counts as two-sided if each sign has at least this share of its firings."""
ANTIPODAL_COSINE = -0.7
_DECODER_CHUNK = 4096


def latent_use(positive: Tensor, negative: Tensor, decoder: Tensor) -> dict[str, float]:
    """Share of dead latents among all latents, and of two-sided and antipodal latents among the alive ones.

    Computed from the firing counts of each sign, [latents], and the decoder, [latents, d]. Raises Skip if no
    latent fires.
    """
    import torch

    firings = positive + negative
    alive = firings > 0
    if not bool(alive.any()):
        raise Skip("no latent fires on the held-out text, so the use of latents is undefined")
    positive, negative = positive[alive], negative[alive]
    two_sided = torch.minimum(positive, negative) >= TWO_SIDED_SHARE * firings[alive]
    main_pole = torch.where(positive >= negative, 1.0, -1.0)
    opposed = _has_antipode(decoder[alive] * main_pole[:, None], two_sided)
    return {
        "dead_fraction": 1 - float(alive.double().mean()),
        "two_sided_fraction": float(two_sided.double().mean()),
        "antipodal_fraction": float(opposed.double().mean()),
    }


def _has_antipode(poles: Tensor, two_sided: Tensor) -> Tensor:
    """Mask of the latents that have a pole opposite to a pole of another latent (cosine below −0.7).

    `poles` [latents, d] is each latent's direction on the side where it fires more often; a two-sided latent
    has the opposite direction as its second pole. For one-sided latents this simply compares decoder rows.
    Flipping a latent's sign changes nothing. Computed in chunks to bound memory.
    """
    import torch

    unit = poles / poles.norm(dim=-1, keepdim=True)
    found = []
    for start in range(0, len(unit), _DECODER_CHUNK):
        cosines = unit[start : start + _DECODER_CHUNK] @ unit.T
        second_pole = two_sided[start : start + _DECODER_CHUNK, None] | two_sided
        against = (cosines < ANTIPODAL_COSINE) | (second_pole & (cosines > -ANTIPODAL_COSINE))
        against.diagonal(start).fill_(False)
        found.append(against.any(-1))
    return torch.cat(found)
