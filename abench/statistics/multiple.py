"""Correction for testing many hypotheses at once."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order; each is at least the p value itself and at most 1.

    Rejecting all adjusted values below 5 % gives a probability of at most 5 % that any true null hypothesis
    is rejected, whatever the dependence between the tests (Holm, 1979).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted
