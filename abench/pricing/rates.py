"""How fast a device computes, as measured in seconds, and how long work takes at these rates."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from abench.cost import Work
from abench.lm.dimensions import Dimensions
from abench.pricing import operations
from abench.pricing.operations import SAESizes

EFFICIENCY = 0.75
"""Speed of a whole forward pass relative to that of its matrix products alone."""
TOKENISING = 2.5e-6
"""Seconds to tokenise, pack and shuffle a token."""


@dataclass(frozen=True)
class PassRates:
    """Seconds per token of the language model, measured on its own weights."""

    lower: float
    upper: float
    logits: float
    """Per position."""
    generated: float
    """Per token of a batch of replies."""


@dataclass(frozen=True)
class Rates:
    """What was measured on one device."""

    device: str
    """Its name, for people."""
    model_products: float
    """Operations per second of products in the model's precision."""
    sae_products: float
    """Operations per second of products in float32, in which SAEs encode."""
    bytes_per_second: float
    """Memory bandwidth."""
    small_step: float
    """Seconds of one optimiser step of a small probe, on the CPU."""
    encoding: float = 1.0
    """Seconds that encoding takes, relative to `encode_estimate`."""
    passes: Mapping[int, PassRates] = field(default_factory=dict)
    """By number of blocks up to the site; empty without the model's weights."""
    steps: Mapping[tuple[str, SAESizes, int], float] = field(default_factory=dict)
    """(Variant, sizes, batch size) -> seconds of a training step."""


def seconds(work: Work, rates: Rates, model: Dimensions | None, blocks_below: int, sae: SAESizes) -> float:
    """How long some work takes."""
    estimate = encode_estimate(work.encoded, sae, rates.sae_products, rates.bytes_per_second)
    of_saes = rates.encoding * estimate
    short = work.steps * rates.small_step
    if model is None:
        return of_saes + short
    measured = rates.passes.get(blocks_below)
    if measured is None:
        rest = Work(**{n: getattr(work, n) for n in ("lower", "upper", "logits", "backward")})
        speed = rates.model_products * EFFICIENCY
        passes = operations.of_work(rest, model, blocks_below, sae) / speed + _generating(work, rates, model)
    else:
        passes = (
            work.lower * measured.lower
            + (work.upper + 2 * work.backward) * measured.upper
            + work.logits * measured.logits
            + work.generated * measured.generated
        )
    return of_saes + short + passes + work.lower * TOKENISING


def encode_estimate(activations: float, sae: SAESizes, speed: float, bytes_per_second: float) -> float:
    """Encoding from operations and memory traffic alone: codes are written, read and selected from."""
    product = 2.0 * activations * sae.d_in * sae.width
    return product / speed + 12.0 * activations * sae.width / bytes_per_second


def _generating(work: Work, rates: Rates, model: Dimensions) -> float:
    """Replies read all weights for each token of a batch, of at least 32 replies."""
    bytes_per_weight = 2.0
    by_products = 2.0 * model.parameters / (rates.model_products * EFFICIENCY)
    by_memory = bytes_per_weight * model.parameters / rates.bytes_per_second / 32
    return work.generated * (by_products + by_memory)


def step_seconds(name: str, sae: SAESizes, batch_size: int, rates: Rates, dense_share: float) -> float:
    """How long a training step takes: measured, or scaled from the nearest size that was measured."""
    if (name, sae, batch_size) in rates.steps:
        return rates.steps[name, sae, batch_size]
    estimate = step_estimate(sae, batch_size, rates, dense_share)
    same = [key for key in rates.steps if key[0] == name] or list(rates.steps)
    if not same:
        return estimate
    nearest = min(same, key=lambda key: abs(key[1].weights * key[2] - sae.weights * batch_size))
    factor = rates.steps[nearest] / step_estimate(nearest[1], nearest[2], rates, dense_share)
    return estimate * factor


def step_estimate(sae: SAESizes, batch_size: int, rates: Rates, dense_share: float) -> float:
    """A training step from operations and memory traffic alone."""
    products = operations.of_step(sae, batch_size, dense_share=dense_share) / rates.sae_products
    # Adam's weights and moments; the codes, several times; the rows of active latents, which are gathered.
    traffic = 28.0 * sae.weights + 12.0 * batch_size * sae.width + 16.0 * batch_size * sae.k * sae.d_in
    return products + traffic / rates.bytes_per_second
