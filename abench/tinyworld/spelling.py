"""Spelling: sequences of words with their first letters."""

from collections.abc import Iterator

from abench.tinyworld.grammar import Dice, Weighted

SPELLING_PROMPT = "{word} has the first letter:"
"""The prompt after which a word's first letter follows."""

_LINES = Weighted(
    {
        "{word} has the first letter: {letter}.": 4.0,
        "the word {word} begins with {letter}.": 1.0,
        "spell {word}: it starts with the letter {letter}.": 1.0,
    }
)
_LENGTHS = (3, 4, 5, 6, 7, 8, 9, 10, 11)


def spelling(dice: Dice, words: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Three to eleven words with their first letters, all in the same phrasing."""
    line = dice.weighted(_LINES)
    chosen = [dice.pick(words) for _ in range(dice.pick(_LENGTHS))]
    return " ".join([line.format(word=word, letter=word[0]) for word in chosen]), {"words": " ".join(chosen)}


def templates() -> Iterator[str]:
    """All templates of this kind."""
    yield from _LINES.options
