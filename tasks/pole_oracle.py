"""The judge that knows the tiny world: what is each word about, and is a side of a latent about one thing?

It counts. A side is about a label if the label is at the peaks of at least three quarters of its contexts,
and would be there so often by chance in less than one of a hundred sides. Labels of a word are its concepts
and poles in the lexicon (`profession:nurse`, `gender+`) and the category of a concept (`profession`). A word
itself is no label: in this world's model the peaks of nearly any direction are the same word over and over,
random directions included.
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

from abench.tinyworld import World, labels

from .pole_judges import Kind, Verdict

if TYPE_CHECKING:
    from abench import Excerpt, LatentContexts

PURITY = 0.75
"""Share of a side's contexts at whose peak a label has to be."""
CHANCE = 0.01
"""How often, at most, some label would reach its count at tokens drawn at random."""
_DOCUMENTS = 3000

Words = frozenset[str]


@dataclass(frozen=True)
class TinyWorldPoles:
    """Judges sides by the tiny world's labels of the words at their peaks.

    It sees neither what stands around a word nor what comes next, and words that carry no label (`the`, `of`)
    are about nothing: a side that is about any of these is none to it.
    """

    name: str = "oracle"

    def spec(self) -> dict[str, Any]:
        return {"judge": self.name, "version": 1, "purity": PURITY, "chance": CHANCE}

    def judge(self, latents: Sequence[LatentContexts]) -> list[Verdict]:
        return [self._verdict(about(each.positive), about(each.negative)) for each in latents]

    def _verdict(self, positive: Words, negative: Words) -> Verdict:
        return Verdict(
            kind_of(positive, negative), *(" ".join(sorted(each)) for each in (positive, negative))
        )


def kind_of(positive: Words, negative: Words) -> Kind:
    """The verdict on two sides that are about these labels; both about the very same is one direction."""
    if not positive and not negative:
        return "none"
    if not positive or not negative or positive == negative:
        return "unidirectional"
    return "opposites" if any(opposite_of(label) in negative for label in positive) else "bidirectional"


def opposite_of(label: str) -> str | None:
    """The other pole of an axis; None for what is no pole."""
    other = {"+": "-", "-": "+"}.get(label[-1])
    return label[:-1] + other if other else None


def about(excerpts: Sequence[Excerpt]) -> Words:
    """The labels that one side of a latent is about; none for a side without contexts."""
    n = len(excerpts)
    rates = base_rates()
    counts = Counter(label for each in excerpts for label in labels_of(each.tokens[each.peak]))
    return frozenset(
        label
        for label, count in counts.items()
        if count >= PURITY * n and len(rates) * tail(count, n, rates.get(label, 0.0)) <= CHANCE
    )


def labels_of(token: str) -> Words:
    """What a token of the tiny world is about; nothing for function words and marks."""
    known = labels().get(token.strip(), ())
    return frozenset((*known, *(label.split(":")[0] for label in known if ":" in label)))


@cache
def base_rates() -> Mapping[str, float]:
    """Share of the held-out texts' words that have each label."""
    words = Counter(word for doc in islice(World().documents("test"), _DOCUMENTS) for word in doc.words)
    counts: Counter[str] = Counter()
    for word, number in words.items():
        for label in labels_of(word):
            counts[label] += number
    return MappingProxyType({label: count / words.total() for label, count in counts.items()})


def tail(count: int, n: int, rate: float) -> float:
    """Probability that at least `count` of n tokens drawn at random have a label of this base rate."""
    return sum(comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(count, n + 1))
