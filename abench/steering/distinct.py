"""Directions that count as different candidates."""

from torch import Tensor

_SAME = 0.999
"""Cosine from which two directions count as one."""


class DistinctDirections:
    """The directions of the candidates so far.

    Unless `directed`, a direction and its opposite are one candidate: a push along either, with both signs,
    does the same.
    """

    def __init__(self, *, directed: bool = False) -> None:
        self._directed = directed
        self._seen: list[Tensor] = []

    def is_new(self, direction: Tensor) -> bool:
        """Whether a unit direction [d_model] equals none so far (cosine above 0.999); if so, it is added."""
        own = direction.double().cpu()
        for other in self._seen:
            cosine = float(own @ other)
            if (cosine if self._directed else abs(cosine)) > _SAME:
                return False
        self._seen.append(own)
        return True
