"""Counts of firings: of the features in synthetic activations, of an SAE's latents, and of both together.

A unit fires where its |coefficient| exceeds a threshold. A latent's coefficient is its code in units of the
residual stream, so that it is comparable with a feature's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abench import Skip

from .poles import Matching, Poles, poles_of

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, SyntheticSample


@dataclass(frozen=True)
class Truth:
    """Held-out activations with their coefficients, and the poles on which features fire in them."""

    batches: Sequence[SyntheticSample]
    threshold: float
    directions: Tensor
    """[features, d_model]."""
    poles: Poles
    """The sides on which features fire in these activations."""
    mean: Tensor
    """[d_model], float64."""
    variance: float
    """Sum of ||x − mean||²."""

    @classmethod
    def of(cls, batches: Sequence[SyntheticSample], directions: Tensor, threshold: float) -> Truth:
        import torch

        x = torch.cat([batch.activations for batch in batches]).double()
        z = torch.cat([batch.coefficients for batch in batches])
        poles = poles_of(directions, *_fired(z, threshold))
        if len(poles.unit) == 0:
            raise Skip("no feature fires in the held-out activations")
        mean = x.mean(0)
        variance = float((x - mean).square().sum())
        if variance == 0:
            raise Skip("all held-out activations are equal, so there is no variance to explain")
        return cls(batches, threshold, directions, poles, mean, variance)

    @property
    def tokens(self) -> int:
        return sum(len(batch.activations) for batch in self.batches)


@dataclass(frozen=True)
class LatentFirings:
    """Firings and reconstruction error of an SAE on the held-out activations."""

    positive: Tensor
    """Positive firings, [latents]."""
    negative: Tensor
    poles: Poles
    error: float
    """Sum of ||x − x̂||²."""

    @classmethod
    def of(cls, sae: SAE, truth: Truth) -> LatentFirings:
        import torch

        from abench import in_residual_units

        positive, negative = torch.zeros(2, sae.cfg.d_sae, dtype=torch.int64, device=truth.mean.device)
        error = 0.0
        for batch in truth.batches:
            codes = sae.encode(batch.activations)
            error += float((batch.activations - sae.decode(codes)).double().square().sum())
            fired = _fired(in_residual_units(sae, batch.activations, codes), truth.threshold)
            positive, negative = positive + fired[0], negative + fired[1]
        return cls(positive, negative, poles_of(sae.W_dec, positive, negative), error)

    @property
    def total(self) -> int:
        """Total number of firings of all latents."""
        return int((self.positive + self.negative).sum())


@dataclass
class PoleCounts:
    """Sums over tokens per pole of a feature, [true poles]; without a match, the found values stay 0."""

    true: Tensor
    """Firings of the feature on this side."""
    size: Tensor
    """Sum of the absolute values of the feature's coefficients on this side."""
    found: Tensor
    """Firings of the latent's pole that is matched with it."""
    both: Tensor
    opposite: Tensor
    """Firings of that latent's pole while the feature fires on its other side."""
    error: Tensor
    """Sum over the feature's firings of |recovered − true coefficient|."""

    @classmethod
    def of(cls, sae: SAE, truth: Truth, found: Poles, matching: Matching) -> PoleCounts:
        import torch

        from abench import residual_codes

        counts = cls(*torch.zeros(6, len(truth.poles.unit), dtype=torch.float64, device=truth.mean.device))
        matched = matching.true
        for batch in truth.batches:
            z = batch.coefficients[:, truth.poles.unit] * truth.poles.sign
            codes = residual_codes(sae, batch.activations)[:, found.unit] * found.sign
            recovered = torch.zeros_like(z)
            recovered[:, matched] = codes[:, matching.found].clamp_min(0)
            counts._add(z, recovered, truth.threshold)
        return counts

    def _add(self, z: Tensor, recovered: Tensor, threshold: float) -> None:
        true, found = z > threshold, recovered > threshold
        self.true += true.sum(0)
        self.size += (z * true).double().sum(0)
        self.found += found.sum(0)
        self.both += (true & found).sum(0)
        self.opposite += ((z < -threshold) & found).sum(0)
        self.error += ((recovered - z).abs() * true).double().sum(0)


def _fired(coefficients: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Numbers of positive and of negative firings of each unit, from coefficients [tokens, units]."""
    return (coefficients > threshold).sum(0), (coefficients < -threshold).sum(0)
