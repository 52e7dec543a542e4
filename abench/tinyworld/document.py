"""A document: a text with its words and their known concepts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from abench.tinyworld.lexicon import labels

_WORD = re.compile(r"\w+|[^\w\s]")
_ARTICLE = re.compile(r"\ba(?= (?:[aeio]|u(?!ni|se|ku)))")


@dataclass(frozen=True)
class Document:
    """One text of the tiny world with the concepts and poles of every word.

    `nats` is −log p of the choices that made the text, given the world's facts (see `grammar.Dice`).
    """

    kind: str
    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    nats: float = 0.0

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words and punctuation marks; each is one token of the world's tokenizer."""
        return words_of(self.text)

    @cached_property
    def concepts(self) -> tuple[tuple[str, ...], ...]:
        """The concepts (`profession:nurse`) and poles (`gender+`) of each word; () for function words."""
        known = labels()
        return tuple(known.get(word, ()) for word in self.words)


def words_of(text: str) -> tuple[str, ...]:
    """The words and punctuation marks of a text, split as by the tokenizer."""
    return tuple(_WORD.findall(text))


def with_articles(text: str) -> str:
    """The text with `a` changed to `an` before a vowel."""
    return _ARTICLE.sub("an", text)
