"""How an SAE uses its latents: which are dead, which fire on both sides, which have an opposite partner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abench import Skip

if TYPE_CHECKING:
    from torch import Tensor

TWO_SIDED_SHARE = 0.05
"""Each sign's least share of the firings of a latent that counts as two-sided."""
ANTIPODAL_COSINE = -0.7
_DECODER_CHUNK = 4096


def latent_use(positive: Tensor, negative: Tensor, decoder: Tensor) -> dict[str, float]:
    """Shares of latents: dead of all, two-sided and antipodal of the alive.

    From the firings on each side, [latents], and the decoder, [latents, d]. Raises Skip if none fires.
    """
    import torch

    firings = positive + negative
    alive = firings > 0
    if not bool(alive.any()):
        raise Skip("no latent fires on the held-out text, so its use of latents is undefined")
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
    """Which latents have a pole that points against a pole of another latent (cosine below −0.7).

    `poles` [latents, d] is each latent's direction on the side where it fires more; a two-sided latent has
    the opposite direction as a second pole. For latents that fire on one side this is the plain comparison of
    decoder rows, and flipping a latent's sign changes nothing. In chunks, so that memory stays bounded.
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
