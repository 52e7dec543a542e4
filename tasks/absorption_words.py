"""Absorption at one word: the letter's own latents are weak or silent, and others carry its direction.

Everything is said of poles: a latent with code z and decoder row d adds z·d, that is |z| times the pole
sign(z)·d. For codes that are not negative this is sae-bench's computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SILENT = 1e-8
"""A latent with a code below this has not fired."""


@dataclass(frozen=True)
class Thresholds:
    """When other latents count as having absorbed a letter; sae-bench's numbers and names for them."""

    absorber_cosine: float = 0.1
    """ABSORPTION_FRACTION_PROBE_COS_THRESHOLD: the least cosine of an absorber's pole with the probe."""
    absorbers: int = 3
    """ABSORPTION_FRACTION_MAX_ABSORBING_LATENTS: the most latents that absorb together."""
    projection_share: float = 0.4
    """ABSORPTION_PROBE_PROJECTION_PROPORTION_THRESHOLD: their least share of the word's projection."""
    full_cosine: float = 0.025
    """FULL_ABSORPTION_PROBE_COS_THRESHOLD: the same cosine for full absorption."""


@dataclass(frozen=True)
class Direction:
    """A letter's probe direction, as the latents see it."""

    projection: Any
    """[latents]: decoder row · unit probe; times the code it is what a latent adds along the probe."""
    cosine: Any
    """[latents]: cosine of decoder row and probe."""

    @classmethod
    def of(cls, decoder: Any, probe: Any) -> Direction:
        """decoder [latents, d_model], probe [d_model]; sae-bench multiplies codes with the cosine, which is
        the same for decoder rows of norm 1, and depends on how a latent is scaled for others."""
        import numpy as np

        projection = decoder @ (probe / np.linalg.norm(probe))
        norm = np.linalg.norm(decoder, axis=-1)
        return cls(projection, projection / np.maximum(norm, 1e-8))


def absorption(
    codes: csr_array, along: Any, direction: Direction, main: Sequence[int], limits: Thresholds
) -> tuple[float, int]:
    """Absorption fractions summed over words, and the number of words with full absorption.

    `codes` [words, latents] are those of the words that have the letter and whose probe says so, `along`
    [words] their residuals' projections on the unit probe, `main` the latents that stand for the letter.
    """
    import numpy as np

    fraction, full = 0.0, 0
    for word in range(codes.shape[0]):
        entries = slice(codes.indptr[word], codes.indptr[word + 1])
        latents, z = codes.indices[entries], codes.data[entries].astype(np.float64)
        at = _Word(
            added=z * direction.projection[latents],
            cosine=np.sign(z) * direction.cosine[latents],
            is_main=np.isin(latents, main),
            main_fires=bool((np.abs(z[np.isin(latents, main)]) >= SILENT).any()),
            along=float(along[word]),
        )
        fraction += at.fraction(limits)
        full += at.is_full(limits)
    return fraction, full


@dataclass(frozen=True)
class _Word:
    """What fires at one word; arrays [latents that fire]."""

    added: Any
    """What each adds along the probe."""
    cosine: Any
    """Of its pole and the probe."""
    is_main: Any
    main_fires: bool
    along: float
    """What the word's residual has along the probe."""

    def fraction(self, limits: Thresholds) -> float:
        """The absorbers' share of what they and the main latents add, 0 to 1."""
        import numpy as np

        main = float(self.added[self.is_main].sum())
        may_absorb = ~self.is_main & (self.cosine >= limits.absorber_cosine) & (self.added > 0)
        absorbed = float(np.sort(self.added[may_absorb])[::-1][: limits.absorbers].sum())
        if self.along <= 0 or main >= self.along or absorbed < limits.projection_share * self.along:
            return 0.0
        if main <= 0:
            return 1.0
        absorbed = min(absorbed, self.along - main)
        return absorbed / (absorbed + main)

    def is_full(self, limits: Thresholds) -> bool:
        """Whether the main latents are silent and the one that adds most carries the probe alone."""
        if self.main_fires or self.along <= 0 or len(self.added) == 0:
            return False
        top = int(self.added.argmax())
        enough = self.added[top] >= limits.projection_share * self.along
        return bool(enough and self.cosine[top] >= limits.full_cosine)
