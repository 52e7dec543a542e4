"""The tiny world's axes as concepts, and its oracle, which reads poles off the words of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from abench import Skip, UserError
from abench.tinyworld import AXES, Document, World, labels

from .concepts import Sizes, TwoPoles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_WORDS = 3
"""Minimum length of a stem, so that it says something."""
_PATIENCE = 100
"""Pairs of scenes per wanted stem after which the stems of an axis count as exhausted."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class AxisOracle:
    """Reads the pole of an axis off a text of the tiny world: the pole of most of its words."""

    axis: str
    name: str = "oracle"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[texts]: 1 or 0 for the pole that has more words in the text, 1/2 without a majority."""
        import numpy as np

        balance = np.array([self._balance(text) for text in texts], dtype=np.int64)
        found: NDArray[np.float64] = (np.sign(balance) + 1) / 2
        return found

    def _balance(self, text: str) -> int:
        words = poles_of_words(self.axis)
        return sum(words.get(word, 0) for word in _WORD.findall(text.lower()))


@cache
def poles_of_words(axis: str) -> Mapping[str, int]:
    """Word -> 1 for the positive pole of an axis and −1 for the negative one; other words are absent."""
    found = {
        word: 1 if f"{axis}+" in own else -1
        for word, own in labels().items()
        if f"{axis}+" in own or f"{axis}-" in own
    }
    return MappingProxyType(found)


def axis_concept(axis: str, sizes: Sizes, *, seed: int) -> TwoPoles:
    """An axis as a concept: scenes of either pole for training, and stems from pairs of scenes.

    Training texts are scenes about the axis from the world's training split. Stems come from other splits.
    Raises UserError for an unknown axis, and Skip if the axis has too few stems.
    """
    if axis not in AXES:
        raise UserError(f"the tiny world has no axis '{axis}'; it has {', '.join(AXES)}")
    negative, positive = (
        tuple(
            scene.text
            for scene in World().sample("scene", "train", sizes.texts, seed=seed, about=axis, **{axis: pole})
        )
        for pole in AXES[axis]
    )
    found = stems(axis, sizes.validation + sizes.test, seed=seed)
    return TwoPoles(
        axis,
        AXES[axis],
        (negative, positive),
        found[: sizes.validation],
        found[sizes.validation :],
        AxisOracle(axis),
        None,
    )


def stems(axis: str, number: int, *, seed: int) -> tuple[str, ...]:
    """Distinct beginnings of scenes, each cut just before a word of the axis.

    The two scenes of a pair differ in the axis's words only. Where at least `LEAST_WORDS` words precede the
    first difference, these are a stem that fits both poles. Otherwise (the first word is a name, which has a
    gender) the stem ends before a later difference, and is taken from the negative and from the positive
    scene in turn. Raises Skip if there are fewer.
    """
    found: dict[str, None] = {}
    for place, pair in enumerate(_pairs(axis, number, seed)):
        cut = next((i for i in differences(pair) if i >= LEAST_WORDS), None)
        if cut is not None:
            found.setdefault(" ".join(pair[place % 2].words[:cut]))
        if len(found) == number:
            return tuple(found)
    raise Skip(f"the axis {axis} has {len(found)} distinct stems, and {number} are needed: ask for fewer")


def _pairs(axis: str, number: int, seed: int) -> Iterator[tuple[Document, Document]]:
    return World().minimal_pairs(axis, _PATIENCE * number, seed=seed)


def differences(pair: tuple[Document, Document]) -> list[int]:
    """The places at which the words of two scenes of equal length differ."""
    first, second = (document.words for document in pair)
    return [place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
