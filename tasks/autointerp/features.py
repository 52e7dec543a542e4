"""Judges without a language model, which explain a unit by features of single tokens.

An explanation is a set of features of the tokens at which a unit is active, such as words. A window is
predicted to be active if one of its tokens has one of these features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._shared.tiny_labels import labels_of
from .judges import Answer
from .windows import Examples, Window

Features = frozenset[str]

MOST_WORDS = 20
"""As many words as an explanation by a language model may have in sae-bench."""
LEAST_F1 = 0.5
"""An explanation by labels must describe the marked tokens at least this well; otherwise there is none."""


@dataclass(frozen=True)
class ByFeatures:
    """Explains by up to `most` features per side, chosen by the F1 of having one and being active.

    Features are added one at a time, always the one that raises F1 most, as long as it rises.
    """

    name: str
    features: Callable[[str], Features]
    most: int
    least_f1: float = 0.0

    def spec(self) -> dict[str, Any]:
        return {"judge": self.name, "version": 1, "most": self.most, "least_f1": self.least_f1}

    def answers(self, units: Sequence[Examples]) -> list[Answer]:
        return [self._answer(unit) for unit in units]

    def _answer(self, unit: Examples) -> Answer:
        sides = [self._explained(unit.shown, side) for side in ((1, -1) if unit.two_sided else (1,))]
        wanted = frozenset().union(*sides)
        predicted = tuple(
            any(self.features(token) & wanted for token in window.tokens) for window in unit.tested
        )
        return Answer("; or ".join(", ".join(side) for side in sides if side), predicted)

    def _explained(self, windows: Sequence[Window], side: int) -> list[str]:
        """The features that describe the tokens marked with `side`, in the order in which they were added."""
        having: Counter[str] = Counter()
        active: Counter[str] = Counter()
        marked = 0
        for window in windows:
            for token, mark in zip(window.tokens, window.marks, strict=True):
                found = self.features(token)
                having.update(found)
                marked += mark == side
                if mark == side:
                    active.update(found)
        chosen: list[str] = []
        best = hits = had = 0.0
        while len(chosen) < self.most:
            rest = [
                (2 * (hits + active[f]) / (marked + had + having[f]), f)
                for f in sorted(active)
                if f not in chosen
            ]
            score, feature = max(rest, key=lambda pair: pair[0], default=(0.0, ""))
            if score <= best:
                break
            chosen.append(feature)
            best, hits, had = score, hits + active[feature], had + having[feature]
        return chosen if best >= self.least_f1 else []


def words_of(token: str) -> Features:
    """The word of a token, without spaces and case; none for white space."""
    word = token.strip().casefold()
    return frozenset((word,)) if word else frozenset()


def oracle() -> ByFeatures:
    """The tiny world's judge: an explanation is the concept, category or pole of the marked words."""
    return ByFeatures("oracle", labels_of, most=1, least_f1=LEAST_F1)


def lexical() -> ByFeatures:
    """The judge by vocabulary: an explanation is a list of words that occur among the marked tokens.

    It asks no language model. It detects latents of words and of small sets of words; it knows neither
    meanings nor contexts, and no word that it was not shown.
    """
    return ByFeatures("lexical", words_of, most=MOST_WORDS)
