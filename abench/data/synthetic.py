"""Synthetic models: activations whose true features and firings are known.

Directions and firings come from sae-lens's synthetic package. Its coefficients cannot be negative, so it only
decides which features fire (coefficients of 1); magnitudes and signs are drawn here.
"""

from typing import NamedTuple

import torch
from sae_lens.synthetic.activation_generator import ActivationGenerator
from sae_lens.synthetic.feature_dictionary import FeatureDictionary, orthogonal_initializer
from torch import Tensor

from abench.config.synthetic_spec import SyntheticSpec
from abench.data.activations import hash_seed
from abench.data.texts import TextPart
from abench.data.token_rows import Position

CHUNK = 4096
"""Training activations drawn at once; a chunk is a pure function of its number."""


class SyntheticSample(NamedTuple):
    """Activations and the coefficients that generated them."""

    coefficients: Tensor
    """[tokens, features]; 0 where a feature does not fire."""
    activations: Tensor
    """[tokens, d_model]."""

    def __repr__(self) -> str:
        tokens, features = self.coefficients.shape
        return f"SyntheticSample({tokens} activations of {features} features)"


class SyntheticModel:
    """A source of activations with known ground truth, used in place of a language model.

    Everything is drawn on the CPU, so that all devices get the same numbers. The global random state is
    restored.
    """

    def __init__(self, spec: SyntheticSpec, d_model: int, *, name: str, device: str = "cpu") -> None:
        self.spec, self.d_model, self.name = spec, d_model, name
        self.device = torch.device(device)
        directions, self.bias = _dictionary(spec, d_model)
        self.directions = directions
        """Unit directions of the true features, [features, d_model]."""
        self.positive = _positive_shares(spec)
        """Probability that a firing is positive, [features]."""
        self._firings = ActivationGenerator(
            spec.features,
            torch.tensor(spec.firing_probabilities()),
            correlation_matrix=_co_firing(spec) if spec.co_firing else None,
        )

    def sample(self, count: int, part: TextPart, *, seed: int, index: int) -> SyntheticSample:
        """`count` activations; equal arguments give equal samples, and the two parts differ."""
        with torch.random.fork_rng(devices=[]):
            # sae-lens draws from the global generator.
            numbers = (self.spec.seed, ("train", "held_out").index(part), seed, index)
            torch.default_generator.manual_seed(hash_seed(*numbers))
            firing = self._firings.sample(count)
            signs = torch.where(torch.rand(firing.shape) < self.positive, 1.0, -1.0)
            coefficients = firing * signs * self._sizes(firing.shape)
            noise = self.spec.noise * torch.randn(count, self.d_model)
        activations = coefficients @ self.directions + self.bias + noise
        return SyntheticSample(coefficients.to(self.device), activations.to(self.device))

    def reader(self, seed: int, at: Position) -> "SyntheticReader":
        """A reader of training activations from a position on; they never end."""
        return SyntheticReader(self, seed, at)

    def _sizes(self, shape: torch.Size) -> Tensor:
        spec = self.spec
        if spec.coefficients == "normal":
            return (spec.mean + spec.sd * torch.randn(shape)).abs()
        if spec.coefficients == "exponential":
            return -spec.mean * torch.log1p(-torch.rand(shape))
        return torch.full(shape, spec.mean)


class SyntheticReader:
    """Reads a synthetic model's training activations in chunks; a position's document is the chunk number."""

    def __init__(self, model: SyntheticModel, seed: int, at: Position) -> None:
        self._model, self._seed, self.position = model, seed, at

    def read(self) -> Tensor:
        chunk = self.position.document
        self.position = Position(chunk + 1)
        return self._model.sample(CHUNK, "train", seed=self._seed, index=chunk).activations


def _dictionary(spec: SyntheticSpec, d_model: int) -> tuple[Tensor, Tensor]:
    """Directions [features, d_model] and bias [d_model]."""
    groups = torch.arange(spec.features) // spec.group_size
    shared = int(groups[-1]) + 1 if spec.overlap else 0
    # The orthogonaliser uses gradient descent, so gradients are enabled even if the caller disabled them.
    with torch.inference_mode(False), torch.enable_grad():
        base = FeatureDictionary(
            spec.features + shared,
            d_model,
            bias=spec.bias,
            initializer=_initializer(spec, d_model),
            seed=spec.seed,
        )
    vectors, bias = base.feature_vectors.detach(), base.bias.detach()
    own = vectors[: spec.features]
    if not shared:
        return own, bias
    mixed = (1 - spec.overlap) ** 0.5 * own + spec.overlap**0.5 * vectors[spec.features :][groups]
    return mixed / mixed.norm(dim=-1, keepdim=True), bias


def _initializer(spec: SyntheticSpec, d_model: int) -> object:
    if spec.directions == "random":
        return None

    def orthogonalise(dictionary: FeatureDictionary) -> None:
        vectors = dictionary.feature_vectors
        if len(vectors) > d_model:
            orthogonal_initializer()(dictionary)
        else:
            vectors.data = torch.linalg.qr(vectors.data.T).Q.T.contiguous()

    return orthogonalise


def _positive_shares(spec: SyntheticSpec) -> Tensor:
    if isinstance(spec.positive, tuple):
        return torch.tensor(spec.positive)
    # A separate generator: the choice of two-sided features is independent of how directions are drawn.
    generator = torch.Generator().manual_seed(hash_seed(spec.seed, spec.features))
    two_sided = torch.randperm(spec.features, generator=generator)[: round(spec.two_sided * spec.features)]
    return torch.ones(spec.features).index_fill(0, two_sided, spec.positive)


def _co_firing(spec: SyntheticSpec) -> tuple[Tensor, Tensor]:
    """Correlation ρ within groups, in sae-lens's form: factors [features, groups], diagonal [features]."""
    groups = torch.arange(spec.features) // spec.group_size
    factors = torch.nn.functional.one_hot(groups).float() * spec.co_firing**0.5
    return factors, torch.full((spec.features,), 1 - spec.co_firing)
