"""Absorption at one word: the letter's own latents are weak or silent, and others carry its direction.

Everything is in terms of poles: a latent with code z and decoder row d adds z·d, which is |z| times the pole
sign(z)·d. For non-negative codes this is sae-bench's computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SILENT = 1e-8
"""A latent whose |code| is below this has not fired."""


@dataclass(frozen=True)
class Thresholds:
    """Thresholds for absorption by other latents, with sae-bench's values and its names for them."""

    absorber_cosine: float = 0.1
    """ABSORPTION_FRACTION_PROBE_COS_THRESHOLD: minimum cosine of an absorber's pole with the probe."""
    absorbers: int = 3
    """ABSORPTION_FRACTION_MAX_ABSORBING_LATENTS: maximum number of latents that absorb together."""
    projection_share: float = 0.4
    """ABSORPTION_PROBE_PROJECTION_PROPORTION_THRESHOLD: their minimum share of the word's projection."""
    full_cosine: float = 0.025
    """FULL_ABSORPTION_PROBE_COS_THRESHOLD: minimum cosine for full absorption."""


@dataclass(frozen=True)
class ProbeDirection:
    """A letter's probe direction relative to the latents."""

    projection: Any
    """[latents]: decoder row · unit probe; times the code, this is what a latent adds along the probe."""
    cosine: Any
    """[latents]: cosine of decoder row and probe."""

    @classmethod
    def of(cls, decoder: Any, probe: Any) -> ProbeDirection:
        """The direction of a probe [d_model] for a decoder [latents, d_model].

        sae-bench multiplies codes by the cosine. This is the same for decoder rows of norm 1; for other rows
        it depends on the scale of a latent.
        """
        import numpy as np

        projection = decoder @ (probe / np.linalg.norm(probe))
        norm = np.linalg.norm(decoder, axis=-1)
        return cls(projection, projection / np.maximum(norm, 1e-8))


def absorption(
    codes: csr_array, along: Any, direction: ProbeDirection, main: Sequence[int], limits: Thresholds
) -> tuple[float, int]:
    """The sum of absorption fractions over words, and the number of words with full absorption.

    `codes` [words, latents] are the codes of words that have the letter and whose letter the probe knows,
    `along` [words] the projections of their residuals on the unit probe, `main` the letter's own latents.
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
    """The latents that fire at one word; arrays have shape [firing latents]."""

    added: Any
    """What each latent adds along the probe."""
    cosine: Any
    """Cosine of each latent's active pole with the probe."""
    is_main: Any
    main_fires: bool
    along: float
    """Projection of the word's residual on the unit probe."""

    def fraction(self, limits: Thresholds) -> float:
        """The absorbers' share of what they and the main latents add along the probe, 0 to 1."""
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
        """Whether the main latents are silent and the latent that adds most carries the letter alone."""
        if self.main_fires or self.along <= 0 or len(self.added) == 0:
            return False
        top = int(self.added.argmax())
        enough = self.added[top] >= limits.projection_share * self.along
        return bool(enough and self.cosine[top] >= limits.full_cosine)
