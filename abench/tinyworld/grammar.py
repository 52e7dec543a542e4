"""Dice that record the surprisal of their choices, and templates whose slots they fill."""

import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate
from math import comb, log
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")

Bindings = Mapping[str, str | Sequence[str]]
"""Slot -> a text, or alternatives to draw from (each may contain further slots)."""

_SLOT = re.compile(r"\{([^{}]+)\}")


class Dice:
    """A random stream that sums −log p of all its choices, in nats.

    The sum over a text's choices is −log p of one way to generate the text. If several ways lead to the same
    text, p(text) is the sum of their probabilities, so the recorded sum is an upper bound on −log p(text),
    and its mean is an upper bound on the entropy.
    """

    __slots__ = ("nats", "random")

    def __init__(self, random: Random) -> None:
        self.random = random.random
        self.nats = 0.0

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, with equal probabilities."""
        n = len(options)
        self.nats += _log(n)
        return options[int(self.random() * n)]

    def weighted(self, options: "Weighted[T]") -> T:
        """One of the options, with probabilities proportional to their weights."""
        i = bisect(options.bounds, self.random())
        self.nats += options.nats[i]
        return options.options[i]

    def chance(self, p: float) -> bool:
        """True with probability p."""
        hit = self.random() < p
        self.nats -= log(p if hit else 1 - p)
        return hit

    def hits(self, throws: int) -> int:
        """The number of heads in some throws of a fair coin; the surprisal is that of the number alone."""
        heads = sum(self.random() < 0.5 for _ in range(throws))
        self.nats += throws * _log(2) - _log(comb(throws, heads))
        return heads

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        """n distinct options in random order."""
        rest = list(options)
        return [rest.pop(rest.index(self.pick(rest))) for _ in range(n)]


class Weighted(Generic[T]):
    """Options with weights, prepared for drawing."""

    __slots__ = ("bounds", "nats", "options")

    def __init__(self, weights: Mapping[T, float]) -> None:
        total = sum(weights.values())
        self.options = tuple(weights)
        # The last bound is left out, so that rounding cannot put a draw of 0.999… beyond it.
        self.bounds = tuple(accumulate(w / total for w in weights.values()))[:-1]
        self.nats = tuple(-log(w / total) if w else float("inf") for w in weights.values())


def fill(template: str, bindings: Bindings, dice: Dice) -> str:
    """The template with every `{slot}` replaced by its binding; alternatives are drawn."""
    parts = list(_parts(template))
    for i in range(1, len(parts), 2):
        value = bindings[parts[i]]
        if not isinstance(value, str):
            value = dice.pick(value)
            if "{" in value:
                value = fill(value, bindings, dice)
        parts[i] = value
    return "".join(parts)


@cache
def _parts(template: str) -> tuple[str, ...]:
    """The parts of a template: literals at even indices, slot names at odd ones."""
    return tuple(_SLOT.split(template))


@cache
def _log(n: int) -> float:
    return log(n)
