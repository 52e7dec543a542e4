"""The words of an excerpt, and the vectors that a language model's embeddings give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

SAMPLED_TOKENS = 16_384
"""Maximum number of tokens of the vocabulary from which the spread of embeddings is estimated."""
FLOOR = 0.05
"""Smallest variance of a direction that is scaled up fully, as a share of the mean variance."""
POWER = 0.25
"""Directions are divided by their variance to this power: 0 leaves embeddings as they are, 0.5 whitens."""
_TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class Word:
    """A word of an excerpt: its text and its tokens, from `start` up to but not including `end`."""

    text: str
    start: int
    end: int


def words_of(tokens: Sequence[str]) -> list[Word]:
    """The words of consecutive tokens, in order; punctuation and white space are words of their own.

    Tokens are joined between letters of scripts with upper and lower case; in other scripts each token is a
    word. Letters begin with one space in place of any other white space before them, so that a word has the
    same text at the beginning of a line.
    """
    ends = [
        i + 1
        for i in range(len(tokens))
        if i + 1 == len(tokens) or not (_is_cased(tokens[i][-1:]) and _is_cased(tokens[i + 1][:1]))
    ]
    starts = [0, *ends[:-1]]
    return [Word(_text("".join(tokens[a:b])), a, b) for a, b in zip(starts, ends, strict=True)]


def _is_cased(character: str) -> bool:
    return character.lower() != character.upper()


def _text(joined: str) -> str:
    word = joined.strip()
    return f" {word}" if any(map(str.isalpha, word)) else joined


class WordVectors:
    """Vectors of words: the mean of the language model's input embeddings of a word's tokens.

    Embeddings vary most in a few directions that say little about meaning, such as how frequent a token is.
    Directions are therefore divided by the fourth root of the vocabulary's variance along them, which is half
    way to white vectors.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._known: dict[str, Tensor] = {}

    def of(self, words: Sequence[str]) -> Tensor:
        """The vectors of words, [words, d_model], in float64; zero for a text without tokens."""
        import torch

        new = [word for word in dict.fromkeys(words) if word not in self._known]
        pieces = self._lm.token_ids(new) if new else []
        for word, ids in zip(new, pieces, strict=True):
            embedded = self._embedded(ids) @ self._scaling
            self._known[word] = embedded.mean(0) if ids else embedded.new_zeros(embedded.shape[1])
        return torch.stack([self._known[word] for word in words])

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        """Input embeddings [tokens, d_model]; asks the module, whose weights may be kept elsewhere."""
        import torch

        with torch.no_grad():
            asked = torch.tensor(ids, dtype=torch.int64, device=self._lm.device)
            found: Tensor = self._lm.model.get_input_embeddings()(asked)
        return found.to("cpu", torch.float64)

    @cached_property
    def _scaling(self) -> Tensor:
        """Divides each principal direction by its variance to a power, [d_model, d_model]."""
        import torch

        step = -(-self._lm.vocabulary // SAMPLED_TOKENS)
        sampled = torch.arange(0, self._lm.vocabulary, step).tolist()
        parts = (sampled[i : i + _TOKENS_AT_ONCE] for i in range(0, len(sampled), _TOKENS_AT_ONCE))
        embeddings = torch.cat([self._embedded(part) for part in parts])
        variances, directions = torch.linalg.eigh(torch.cov(embeddings.T))
        least = FLOOR * variances.mean()
        scaling: Tensor = directions / variances.clamp_min(least) ** POWER
        return scaling
