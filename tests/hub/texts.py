"""Texts whose words tell their class: made-up words of a topic among common ones, from a seed."""

import random
from functools import cache

_COMMON = ["the", "a", "of", "and", "to", "in", "was", "for", "on", "with", "as", "by", "this", "that", "it"]
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


@cache
def topic_words(topic: str, number: int = 12) -> tuple[str, ...]:
    """Different words for texts about `topic`; the same ones in every process."""
    rng = random.Random(f"words of {topic}")
    words: dict[str, None] = {}
    while len(words) < number:
        words["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))] = None
    return tuple(words)


def text_about(rng: random.Random, *topics: str, words: int = 40) -> str:
    """A text of `words` words, every third of them about one of the topics."""
    own = [word for topic in topics for word in topic_words(topic)]
    drawn = [rng.choice(own) if own and rng.random() < 1 / 3 else rng.choice(_COMMON) for _ in range(words)]
    return " ".join(drawn).capitalize() + "."
