"""What absorption computes, from numbers of words and lengths of prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abench import Cost, Work
from abench.tinyworld import SPELLING_PROMPT, World

if TYPE_CHECKING:
    from abench import CostSetting

_WORD_SHARE = 0.5
"""Share of a vocabulary's tokens that are words and stay single tokens in a prompt."""
_LINE_TOKENS = 8
"""Tokens of a line `{word} has the first letter: X` with its end."""
_KNOWN_SHARE = 0.5
"""Share of the test words whose letter the probe on the residual stream knows."""
_ASSUMES = "half of the vocabulary are words"


def priced(
    setting: CostSetting, examples: int, train_share: float, epochs: int, batch_size: int
) -> Cost | None:
    """The cost; None if the size of the vocabulary is not known."""
    tiny = setting.data.source == "tinyworld"
    if tiny:
        # "the word {word} begins with the letter", then " x." after each example.
        line = len(SPELLING_PROMPT.split()) + SPELLING_PROMPT.count(":")
        words, prompt = len(World().spelling_words), 1 + examples * (line + 2) + line
    elif setting.vocabulary is None:
        return None
    else:
        words, prompt = int(_WORD_SHARE * setting.vocabulary), 1 + _LINE_TOKENS * (examples + 1)
    words = setting.limited(words)
    learn = int(words * train_share)
    read = words + _KNOWN_SHARE * (words - learn)
    steps = epochs * -(-learn // batch_size)
    return Cost(
        setting.read(read * prompt) + Work(steps=steps),
        # The probe on sparse codes, and up to ten small fits for each of 26 letters.
        Work(encoded=read, steps=steps + 26 * 20),
        assumes="" if tiny else _ASSUMES,
    )
