"""Intervals of ranges by resampling stems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 2000


def bootstrap(differences: Sequence[NDArray[np.float64]], *, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over concepts of the mean over stems.

    `differences` has an array [stems] per concept. Stems are drawn with replacement within each concept
    (Efron and Tibshirani 1993, chapter 13); which concepts there are is not drawn.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    means = [
        values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(1) for values in differences
    ]
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return float(low), float(high)
