"""The verdicts of judges of a latent's two sides, and the agreement of two judges."""

from __future__ import annotations

from collections.abc import Sequence

from abench.judges import PoleKind

KINDS: tuple[PoleKind, ...] = ("opposites", "bidirectional", "unidirectional", "none")
"""The valid verdicts."""


def kappa(first: Sequence[PoleKind], second: Sequence[PoleKind]) -> float | None:
    """Cohen's kappa of two judges' verdicts on the same latents; None where it is undefined.

    Kappa is (p − e) / (1 − e), where p is the share of verdicts on which they agree and e the share expected
    by chance from each judge's frequencies (Cohen 1960). It is undefined if e is 1 or there are no latents.
    """
    n = len(first)
    if n == 0:
        return None
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    by_chance = sum(first.count(kind) * second.count(kind) for kind in {*first, *second}) / n**2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
