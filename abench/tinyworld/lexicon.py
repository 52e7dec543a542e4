"""The meaning of each word: its concepts and poles.

The world has almost no homonyms. A word form has one meaning, so its labels are a function of the word. The
exceptions are the letters `a` (also the article) and `i` (also the pronoun), which have no label.
"""

from collections.abc import Mapping
from functools import cache
from string import ascii_lowercase
from types import MappingProxyType

from abench.tinyworld.axes import AXES, PAIRS, VERBS
from abench.tinyworld.words import COUNTED, NAMES, PLAIN

Label = tuple[str, ...]

_GRAMMATICAL = {
    "it": ("number-",),
    "its": ("number-",),
    "this": ("number-",),
    "they": ("number+",),
    "their": ("number+",),
    "these": ("number+",),
    "is": ("tense+", "number-"),
    "are": ("tense+", "number+"),
    "was": ("tense-", "number-"),
    "were": ("tense-", "number+"),
}


def _pair_labels() -> dict[str, Label]:
    return {
        word: (name.split(".")[0] + sign,)
        for name, poles in PAIRS.items()
        for sign, words in zip("-+", poles, strict=True)
        for word in words
    }


def _verb_labels() -> dict[str, Label]:
    labels: dict[str, Label] = {}
    for axis, poles in VERBS.items():
        for sign, verbs in zip("-+", poles, strict=True):
            own = () if axis == "plain" else (axis + sign,)
            for singular, plural, past in verbs:
                labels[singular] = (*own, "tense+", "number-")
                labels[plural] = (*own, "tense+", "number+")
                labels[past] = (*own, "tense-")
    labels.pop("-")
    return labels


def _noun_labels() -> dict[str, Label]:
    labels: dict[str, Label] = {}
    for category, nouns in COUNTED.items():
        for singular, plural in nouns:
            labels[singular] = (f"{category}:{singular}", "number-")
            labels[plural] = (f"{category}:{singular}", "number+")
    for category, words in PLAIN.items():
        labels |= {word: (f"{category}:{word}",) for word in words}
    return labels


@cache
def labels() -> Mapping[str, Label]:
    """Word -> its concepts and poles, for every word that has any.

    A pole is written `axis-` or `axis+`, a one-pole concept `category:word` with the word in the singular.
    """
    merged: dict[str, Label] = {}
    names = {name: (f"gender{sign}",) for sign, side in zip("-+", NAMES, strict=True) for name in side}
    letters = {letter: (f"letter:{letter}",) for letter in ascii_lowercase if letter not in "ai"}
    for part in (_pair_labels(), _verb_labels(), _noun_labels(), names, letters, _GRAMMATICAL):
        for word, label in part.items():
            if merged.setdefault(word, label) != label:
                raise ValueError(f"'{word}' has two meanings: {merged[word]} and {label}")
    return MappingProxyType(merged)


@cache
def concepts() -> tuple[str, ...]:
    """All one-pole concepts, sorted."""
    return tuple(sorted({c for label in labels().values() for c in label if ":" in c}))


def wide_labels() -> dict[str, Label]:
    """`labels()` with the category of each one-pole concept as a label of its own: `profession`."""
    return {
        word: (*of_word, *(label.split(":")[0] for label in of_word if ":" in label))
        for word, of_word in labels().items()
    }


def described(label: str) -> str:
    """A label in words: a pole with the name of its axis, `gender: female` for `gender+`."""
    axis, sign = label[:-1], label[-1]
    return f"{axis}: {AXES[axis]['-+'.index(sign)]}" if axis in AXES and sign in "-+" else label


def axis_of(labels: tuple[str | None, str | None]) -> str | None:
    """The axis whose two poles the labels are, in either order; None if they are not two such poles."""
    return next((axis for axis in AXES if {f"{axis}-", f"{axis}+"} == set(labels)), None)
