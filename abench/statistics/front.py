"""The Pareto front of points with two or more objectives, and how surely a point is on it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 2_000


def pareto_front(points: "Floats") -> "NDArray[np.bool_]":
    """Which of the points [..., n, objectives] no other point dominates; higher is better throughout.

    A point dominates another if it is at least as good in all objectives and better in one.
    """
    other, own = points[..., None, :, :], points[..., :, None, :]
    dominated = (other >= own).all(-1) & (other > own).any(-1)
    front: NDArray[np.bool_] = ~dominated.any(-1)
    return front


def front_shares(values: "Floats", resamples: int = RESAMPLES, seed: int = 0) -> "Floats | None":
    """For each point, the share of resamples of the seeds in which its mean is on the front.

    `values` is [n, seeds, objectives]; all points have the same seeds, which are resampled together, and
    higher is better. None for fewer than two seeds.
    """
    import numpy as np

    seeds = values.shape[1]
    if seeds < 2:
        return None
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = np.einsum("rs,nso->rno", counts, values)
    shares: Floats = pareto_front(means).mean(0)
    return shares
