"""Whether an imported SAE does on held-out text what its files promise, or another reading fits better.

Weights tell little about how they are to be used, and each library applies norms, biases and scales at
another place. What was read wrongly shows itself on real activations: L0 differs from the promise, or another
reading of the same weights reconstructs much better.
"""

from collections.abc import Iterator
from math import isfinite, log
from typing import Any

from torch import Tensor

from abench.importing.fit import Fit, fit_of
from abench.importing.imported import Promise
from abench.importing.readings import Reading, as_it_is, other_readings

TOKENS = 2048
"""Activations that are used; of more, those at equal distances."""

_CLEARLY = 0.75
"""A reading fits clearly better if it leaves at most this share of the variance unexplained ..."""
_AT_LEAST = 0.02
"""... and explains at least this much more of it."""
_L0_TOLERANCE = 1.25
"""Largest factor between the measured and the promised L0 that is not reported."""
_NORMS = (0.5, 1.5)
"""Mean norm ratios that are not reported: reconstructions are a little shorter than what they reconstruct."""


def measured(sae: Any, x: Tensor) -> Fit:
    """L0, explained variance and norm ratio of an SAE on activations x [tokens, d_in]."""
    return fit_of(as_it_is(sae), _some(x))


def findings(
    sae: Any,
    promised: Promise,
    x: Tensor,
    *,
    other_bos: Tensor | None = None,
    has_bos: bool = True,
) -> tuple[str, ...]:
    """Sentences about what an SAE does other than promised on activations x [tokens, d_in] of held-out text.

    A sentence names a reading of the same weights that fits clearly better, with both numbers: another
    activation function, an input scale, the pre-encoder bias left out or applied, decoder norms. `other_bos`
    are activations of the same text with BOS if x has none, and without it if x has it (`has_bos`). Empty if
    there is nothing to report.
    """
    x = _some(x)
    own = fit_of(as_it_is(sae), x)
    found = list(_deviations(own, promised))
    better = _best(sae, promised, own, x)
    if better is not None:
        reading, fit = better
        found.append(f"It fits better {reading.what}: {_numbers(fit, own)}.")
    if other_bos is not None:
        other = fit_of(as_it_is(sae), _some(other_bos))
        if _is_better(other, own):
            how = "without BOS" if has_bos else "that begins with BOS"
            found.append(f"It fits better on text {how}: {_numbers(other, own)}.")
    return tuple(found)


def _some(x: Tensor) -> Tensor:
    step = -(-len(x) // TOKENS)
    return x[::step] if step > 1 else x


def _deviations(own: Fit, promised: Promise) -> Iterator[str]:
    active = promised.active
    if active and _distance(own.l0, active) > log(_L0_TOLERANCE):
        stated = f"k = {promised.k}" if promised.l0 is None else f"a recorded L0 of {promised.l0:g}"
        yield f"Its L0 is {own.l0:.4g}, but its files state {stated}."
    if not isfinite(own.explained):
        return
    if own.explained <= 0:
        yield (
            f"It explains nothing of the variance (explained variance {own.explained:.3g}): it was trained "
            "at another place or on another model, or its files leave something out."
        )
    if not _NORMS[0] <= own.norm_ratio <= _NORMS[1]:
        yield f"Its reconstructions have {own.norm_ratio:.3g} times the norm of the activations, on average."


def _best(sae: Any, promised: Promise, own: Fit, x: Tensor) -> tuple[Reading, Fit] | None:
    """The reading that fits best among those that fit clearly better than the SAE as it is."""
    k = promised.k if promised.k is not None else getattr(sae.cfg, "k", None)
    fits = [(reading, fit_of(reading.reconstruct, x)) for reading in other_readings(sae, k, x)]
    active = promised.active or own.l0
    better = [
        (reading, fit)
        for reading, fit in fits
        if (_is_better(fit, own) and _keeps_l0(fit, own, active)) or _restores_l0(fit, own, promised)
    ]
    return max(better, key=lambda each: each[1].explained) if better else None


def _is_better(fit: Fit, own: Fit) -> bool:
    return fit.unexplained <= _CLEARLY * own.unexplained and fit.explained >= own.explained + _AT_LEAST


def _keeps_l0(fit: Fit, own: Fit, active: float) -> bool:
    """Whether the better fit is not only due to more active latents."""
    return fit.l0 <= max(own.l0, active) * _L0_TOLERANCE


def _restores_l0(fit: Fit, own: Fit, promised: Promise) -> bool:
    """Whether it has the promised L0, which the SAE as it is misses, at no worse a fit."""
    active = promised.active
    if not active:
        return False
    missed = _distance(own.l0, active) > log(_L0_TOLERANCE)
    restored = _distance(fit.l0, active) <= log(_L0_TOLERANCE)
    return missed and restored and fit.unexplained <= own.unexplained + _AT_LEAST


def _distance(l0: float, active: float) -> float:
    """How far an L0 is from a promised one, as the logarithm of the factor between them."""
    return abs(log(l0 / active)) if l0 > 0 else float("inf")


def _numbers(fit: Fit, own: Fit) -> str:
    return (
        f"explained variance {fit.explained:.3f} instead of {own.explained:.3f}, L0 {fit.l0:.4g} instead of "
        f"{own.l0:.4g}"
    )
