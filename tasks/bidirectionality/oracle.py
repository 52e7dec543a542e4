"""The tiny world's oracle: it judges the sides of a latent by the labels of the words at their peaks.

It counts labels. A side is about a label if the label occurs at the peaks of at least three quarters of its
contexts and would do so by chance in fewer than one in a hundred sides. The labels of a word are its concepts
and poles in the lexicon (`profession:nurse`, `gender+`) and the category of a concept (`profession`). The
word itself is not a label, because in this world's model the peaks of nearly any direction, even a random
one, are one word over and over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from math import comb
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from abench.judges import PoleKind, PoleVerdict
from abench.tinyworld import World

from .._shared.tiny_labels import labels_of

if TYPE_CHECKING:
    from abench import Excerpt, LatentContexts

PURITY = 0.75
"""Minimum share of a side's contexts that have the label at their peak."""
CHANCE = 0.01
"""Maximum probability that some label reaches its count at randomly drawn tokens."""
_DOCUMENTS = 3000

Words = frozenset[str]


@dataclass(frozen=True)
class TinyWorldPoles:
    """Judges sides by the tiny world's labels of the words at their peaks.

    It sees neither the words around the peak nor the next word, and words without a label (`the`, `of`) count
    as about nothing. It judges a side that is about any of these as `none`.
    """

    name: str = "oracle"

    def spec(self) -> dict[str, Any]:
        return {"judge": self.name, "version": 1, "purity": PURITY, "chance": CHANCE}

    def judge(self, latents: Sequence[LatentContexts]) -> list[PoleVerdict]:
        return [self._verdict(about(each.positive), about(each.negative)) for each in latents]

    def _verdict(self, positive: Words, negative: Words) -> PoleVerdict:
        return PoleVerdict(
            kind_of(positive, negative), *(" ".join(sorted(each)) for each in (positive, negative))
        )


def kind_of(positive: Words, negative: Words) -> PoleKind:
    """The verdict on two sides with these labels; two sides with identical labels are unidirectional."""
    if not positive and not negative:
        return "none"
    if not positive or not negative or positive == negative:
        return "unidirectional"
    return "opposites" if any(opposite_of(label) in negative for label in positive) else "bidirectional"


def opposite_of(label: str) -> str | None:
    """The other pole of an axis; None for a label that is not a pole."""
    other = {"+": "-", "-": "+"}.get(label[-1])
    return label[:-1] + other if other else None


def about(excerpts: Sequence[Excerpt]) -> Words:
    """The labels that one side of a latent is about; empty for a side without contexts."""
    n = len(excerpts)
    rates = base_rates()
    counts = Counter(label for each in excerpts for label in labels_of(each.tokens[each.peak]))
    return frozenset(
        label
        for label, count in counts.items()
        if count >= PURITY * n and len(rates) * tail(count, n, rates.get(label, 0.0)) <= CHANCE
    )


@cache
def base_rates() -> Mapping[str, float]:
    """Label -> share of the held-out texts' words that have it."""
    words = Counter(word for doc in islice(World().documents("test"), _DOCUMENTS) for word in doc.words)
    counts: Counter[str] = Counter()
    for word, number in words.items():
        for label in labels_of(word):
            counts[label] += number
    return MappingProxyType({label: count / words.total() for label, count in counts.items()})


def tail(count: int, n: int, rate: float) -> float:
    """Probability that at least `count` of n randomly drawn tokens have a label with this base rate."""
    return sum(comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(count, n + 1))
