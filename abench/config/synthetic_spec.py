"""The frozen description of a synthetic model, from its YAML file; part of every key."""

from typing import Literal

from pydantic import Field, model_validator

from abench.config.spec import Factor, Seed, Share, Spec, Word


class SyntheticSpec(Spec):
    """Activations x = Σᵢ zᵢ dᵢ + bias + noise, with known directions dᵢ and signed coefficients zᵢ.

    Features are numbered from the most to the least frequent.
    """

    features: int = Field(ge=1, le=10**6)
    """Number of true features; if it exceeds d_model, they are in superposition."""
    l0: float = Field(gt=0, le=1e6)
    """Mean number of features that fire per activation."""
    zipf_exponent: float = Field(0.0, ge=0, le=100)
    """Firing probabilities are proportional to rank^−exponent; 0 makes them equal."""
    two_sided: Share = 1.0
    """Fraction of the features that fire with both signs (chosen by the seed); others are never negative."""
    positive: Share | tuple[Share, ...] = 0.5
    """Probability that a two-sided feature fires positively, or a list with one probability per feature (1:
    never negative), which replaces two_sided."""
    coefficients: Literal["constant", "normal", "exponential"] = "normal"
    """Distribution of |z| where a feature fires: `normal` is |N(mean, sd)|."""
    mean: float = Field(1.0, gt=0, le=1e6)
    """Mean of the coefficients."""
    sd: Factor = 0.2
    """Standard deviation of the coefficients; used by `normal` only."""
    directions: Literal["orthogonal", "random"] = "orthogonal"
    """`orthogonal`: exactly for up to d_model features, as nearly as possible for more; `random`: uniform on
    the sphere."""
    group_size: int = Field(1, ge=1, le=10**6)
    """Number of neighbouring features that form a group; has an effect only with overlap or co_firing."""
    overlap: float = Field(0.0, ge=0, lt=1)
    """Cosine between the directions within a group, which share a component as man and woman share people."""
    co_firing: float = Field(0.0, ge=0, lt=1)
    """Correlation, within a group, of the normal variables that are thresholded to decide which features
    fire."""
    bias: Factor = 0.0
    """Norm of a constant offset."""
    noise: Factor = 0.0
    """Standard deviation of the normal noise in each dimension."""
    seed: Seed = 0
    """Seed of the directions and of the choice of two-sided features."""
    names: tuple[Word, ...] = ()
    """Names of the features, for a world that is small enough to draw; `male/female` names the positive and
    the negative side."""

    @model_validator(mode="after")
    def _fits(self) -> "SyntheticSpec":
        if isinstance(self.positive, tuple):
            if len(self.positive) != self.features:
                raise ValueError(
                    f"positive has {len(self.positive)} values, but there are {self.features} features"
                )
            if "two_sided" in self.model_fields_set:
                raise ValueError("give either two_sided or a list in positive, not both")
        if self.names and len(self.names) != self.features:
            raise ValueError(f"names has {len(self.names)} values, but there are {self.features} features")
        if (most := self.firing_probabilities()[0]) > 1:
            raise ValueError(
                f"the most frequent feature would need to fire with probability {most:.3g}; "
                "lower l0 or zipf_exponent, or add features"
            )
        return self

    def firing_probabilities(self) -> list[float]:
        """The probability that each feature fires; the probabilities add up to l0."""
        weights = [rank**-self.zipf_exponent for rank in range(1, self.features + 1)]
        total = sum(weights)
        return [self.l0 * weight / total for weight in weights]

    def pole_names(self, feature: int) -> tuple[str, str]:
        """Names of the positive and the negative side of a named feature."""
        positive, slash, negative = self.names[feature].partition("/")
        return positive, negative if slash else f"not {positive}"
