"""What a synthetic model is made of: the frozen description that stands in its YAML file and in every key."""

from typing import Literal

from pydantic import Field, model_validator

from abench.spec import Factor, Seed, Share, Spec, Word


class SyntheticSpec(Spec):
    """Activations x = Σᵢ zᵢ dᵢ + bias + noise, with known directions dᵢ and signed coefficients zᵢ.

    Features are numbered from the most to the least frequent.
    """

    features: int = Field(ge=1, le=10**6)
    """True features; more than d_model puts them into superposition."""
    l0: float = Field(gt=0, le=1e6)
    """Mean number of features that fire in an activation."""
    zipf_exponent: float = Field(0.0, ge=0, le=100)
    """Firing probabilities fall as rank^−exponent; 0 makes them equal."""
    two_sided: Share = 1.0
    """Share of the features, drawn by the seed, that fire with both signs; the others are never negative."""
    positive: Share | tuple[Share, ...] = 0.5
    """Probability that a two-sided feature fires positively; a list gives it for each feature (1: never
    negative) and takes the place of two_sided."""
    coefficients: Literal["constant", "normal", "exponential"] = "normal"
    """Distribution of |z| where a feature fires: `normal` is |N(mean, sd)|."""
    mean: float = Field(1.0, gt=0, le=1e6)
    sd: Factor = 0.2
    """Standard deviation of the coefficients; used by `normal` only."""
    directions: Literal["orthogonal", "random"] = "orthogonal"
    """`orthogonal`: exactly so up to d_model features, as nearly as they fit beyond; `random`: uniform on
    the sphere."""
    group_size: int = Field(1, ge=1, le=10**6)
    """Neighbouring features that belong together; matters with overlap or co_firing only."""
    overlap: float = Field(0.0, ge=0, lt=1)
    """Cosine between the directions of a group: they share a part, as man and woman share people."""
    co_firing: float = Field(0.0, ge=0, lt=1)
    """Correlation within a group of the normal variables whose thresholds decide what fires."""
    bias: Factor = 0.0
    """Norm of a constant offset."""
    noise: Factor = 0.0
    """Standard deviation of normal noise in every dimension."""
    seed: Seed = 0
    """Seed of the directions and of which features are two-sided."""
    names: tuple[Word, ...] = ()
    """Names of the features, for a world small enough to draw; `male/female` names the positive and the
    negative side."""

    @model_validator(mode="after")
    def _fits(self) -> "SyntheticSpec":
        if isinstance(self.positive, tuple):
            if len(self.positive) != self.features:
                raise ValueError(f"positive lists {len(self.positive)} of {self.features} features")
            if "two_sided" in self.model_fields_set:
                raise ValueError("two_sided and a list in positive say the same thing twice: give one")
        if self.names and len(self.names) != self.features:
            raise ValueError(f"names lists {len(self.names)} of {self.features} features")
        if (most := self.firing_probabilities()[0]) > 1:
            raise ValueError(
                f"the most frequent feature would have to fire with probability {most:.3g}: "
                "lower l0 or zipf_exponent, or add features"
            )
        return self

    def firing_probabilities(self) -> list[float]:
        """How often each feature fires; they add up to l0."""
        weights = [rank**-self.zipf_exponent for rank in range(1, self.features + 1)]
        total = sum(weights)
        return [self.l0 * weight / total for weight in weights]

    def pole_names(self, feature: int) -> tuple[str, str]:
        """Names of the positive and the negative side of a named feature."""
        positive, slash, negative = self.names[feature].partition("/")
        return positive, negative if slash else f"not {positive}"
