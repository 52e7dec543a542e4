"""Random directions as a baseline: what a judge finds in directions that nothing was trained for.

The strongest contexts of a direction that was drawn at random often have something in common, too, because
the activations themselves have structure. Only what latents have beyond that speaks for the SAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from abench.judges import PoleJudge, share

from .judges import KINDS

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel, LatentContexts


class RandomDirections:
    """Unit vectors in random directions, as an SAE: a code is the projection of a centred activation.

    Both signs of a code are equally good, so that each direction has two sides.
    """

    def __init__(self, number: int, centre: Tensor, seed: int) -> None:
        import torch

        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(number, len(centre), generator=generator, dtype=torch.float64)
        self.W_dec = (drawn / drawn.norm(dim=1, keepdim=True)).to(centre)
        """[number, d_in]."""
        self._centre = centre

    def encode(self, x: Tensor) -> Tensor:
        """Projections [tokens, number] of activations x [tokens, d_in]."""
        codes: Tensor = (x - self._centre) @ self.W_dec.T
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """What the codes stand for, [tokens, d_in]."""
        x_hat: Tensor = codes @ self.W_dec
        return x_hat


def random_directions(
    number: int, lm: LanguageModel, rows: Tensor, site: str, *, seed: int
) -> RandomDirections:
    """Directions at a site, for activations centred at their mean over rows of tokens [rows, context]."""
    from abench import ordinary

    x = lm.residual(rows, site)[ordinary(rows, lm).to(lm.device)].float()
    return RandomDirections(number, x.mean(0), seed)


def counted(judge: PoleJudge, latents: Sequence[LatentContexts]) -> dict[str, Any] | None:
    """The judge's verdicts on random directions as shares of each kind; None if none can be read."""
    kinds = [verdict.kind for verdict in judge.judge(latents)]
    valid = len(kinds) - kinds.count("invalid")
    if not valid:
        return None
    found = {kind: share(count, valid) for kind, count in counts_of(kinds).items()}
    return {kind: [each.value, each.low, each.high, each.n] for kind, each in found.items()}


def counts_of(kinds: Sequence[str]) -> dict[str, int]:
    """The number of verdicts of each kind; bidirectional ones include opposites."""
    counts: dict[str, int] = {kind: kinds.count(kind) for kind in KINDS}
    counts["bidirectional"] += counts["opposites"]
    return counts
