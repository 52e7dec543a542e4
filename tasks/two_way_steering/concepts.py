"""The two-pole concepts: training texts of either pole, neutral beginnings to continue, and a judge of poles.

Three disjoint sets are needed: texts in which methods find the concept, and beginnings ("stems") whose
continuations choose settings (validation) and are reported (test). Where the poles of a continuation are
judged by a classifier, that is trained and tested on yet other texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from abench.judges import Share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PoleReader(Protocol):
    """Decides which pole of a concept a text shows."""

    @property
    def name(self) -> str:
        """A short name for tables."""
        ...

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[texts]: 1 for the positive pole, 0 for the negative one, 1/2 for neither."""
        ...


@dataclass(frozen=True, eq=False)
class TwoPoles:
    """A concept, with everything that is needed to steer along it and to see where steering leads."""

    name: str
    poles: tuple[str, str]
    """The names of the negative and of the positive pole."""
    texts: tuple[tuple[str, ...], tuple[str, ...]]
    """Texts of the negative and of the positive pole, in which methods find the concept."""
    validation: tuple[str, ...]
    """Stems on whose continuations settings are chosen."""
    test: tuple[str, ...]
    """Stems on whose continuations results are reported."""
    reader: PoleReader
    accuracy: Share | None
    """How often the reader is right on held-out texts as long as a continuation; None if it cannot err."""


@dataclass(frozen=True)
class Sizes:
    """How many texts and stems a concept has, and how long they are."""

    texts: int
    """Training texts per pole."""
    validation: int
    test: int
    """Stems."""
    stem_tokens: int
    new_tokens: int
    """Tokens of a stem and of its continuation, where stems are cut from texts."""
    classifier: int
    accuracy: int
    """Texts per pole for training and for testing a classifier."""

    def limited(self, limit: int | None) -> Sizes:
        """The sizes under the evaluation's limit, with enough to compare two poles.

        A classifier is an instrument of measurement, so the limit does not apply to its training texts.
        """
        if limit is None:
            return self
        most = max(2, limit)
        return Sizes(
            min(self.texts, most),
            min(self.validation, most),
            min(self.test, most),
            self.stem_tokens,
            self.new_tokens,
            self.classifier,
            min(self.accuracy, max(FEWEST, limit)),
        )


FEWEST = 10
"""Minimum number of texts per pole on which a classifier is tested."""

Counts = Mapping[str, tuple[int, int]]
"""Kind of data -> number used, number requested."""


def counted(concepts: Sequence[TwoPoles], sizes: Sizes) -> Counts:
    """How many texts and stems the concepts have, of those requested."""
    return {
        "texts": (
            sum(len(texts) for each in concepts for texts in each.texts),
            2 * sizes.texts * len(concepts),
        ),
        "validation stems": (
            sum(len(each.validation) for each in concepts),
            sizes.validation * len(concepts),
        ),
        "test stems": (sum(len(each.test) for each in concepts), sizes.test * len(concepts)),
    }
