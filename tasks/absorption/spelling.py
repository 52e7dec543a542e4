"""First-letter prompts: single-token words after worked examples, and the residual stream at each word.

Words come from the tokenizer's vocabulary, as in sae-bench, or from the tiny world. A word is used only if it
is that single token in its prompt too, according to the token ids; other words are left out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abench import Context, Skip
from abench.tinyworld import SPELLING_PROMPT, World

from .._shared.labelled import is_tiny

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PROMPTS_AT_ONCE = 8192
_NO_LIMIT = 1 << 20


@dataclass(frozen=True)
class Style:
    """A prompt format: `start`, then lines of word and letter, joined by `separator`."""

    line: str
    answer: str
    separator: str
    start: str
    capital: bool

    def prompt(self, word: str, examples: Sequence[str]) -> str:
        """The examples with their answers, then the word without its answer."""
        solved = [self.line.format(word=e) + self.answer.format(letter=self._letter(e)) for e in examples]
        return self.start + self.separator.join([*solved, self.line.format(word=word)])

    def _letter(self, word: str) -> str:
        letter = word.strip()[0]
        return letter.upper() if self.capital else letter.lower()


SAE_BENCH = Style("{word} has the first letter:", " {letter}", "\n", "\n", capital=True)
TINY = Style(SPELLING_PROMPT, " {letter}.", " ", "", capital=False)


@dataclass(frozen=True)
class Word:
    """A word, including any leading space of its token."""

    text: str
    token: int

    @property
    def letter(self) -> int:
        """Index of its first letter, 0 for a."""
        return LETTERS.index(self.text.strip()[0].lower())


@dataclass(frozen=True)
class Words:
    """Words with the residual stream at each word, in its own prompt."""

    words: tuple[Word, ...]
    residual: Tensor
    """[words, d_model], float32, on the CPU."""

    @property
    def letters(self) -> Tensor:
        """Index of each word's first letter, [words], int64."""
        import torch

        return torch.tensor([word.letter for word in self.words], dtype=torch.int64)


def style_of(ctx: Context) -> Style:
    return TINY if is_tiny(ctx) else SAE_BENCH


def candidates(lm: LanguageModel, ctx: Context) -> list[Word]:
    """All single-token words, sorted; `usable` then selects those that keep their token in a prompt.

    Sorting matters because tokenizers list their vocabulary in an order that differs between processes;
    sae-bench draws from that order.
    """
    if is_tiny(ctx):
        texts = sorted(World().spelling_words)
        return [
            Word(text, ids[0]) for text, ids in zip(texts, lm.token_ids(texts), strict=True) if len(ids) == 1
        ]
    from sae_bench.evals.absorption.vocab import convert_tokens_to_string

    vocabulary = sorted(lm.tokenizer.get_vocab().items())
    found = {convert_tokens_to_string(token, lm.tokenizer): number for token, number in vocabulary}
    return [Word(text, found[text]) for text in sorted(found) if _is_word(text)]


def usable(lm: LanguageModel, words: Sequence[Word], style: Style) -> list[Word]:
    """The words that keep their single token in a prompt."""
    kept = []
    for start in range(0, len(words), _PROMPTS_AT_ONCE):
        chunk = words[start : start + _PROMPTS_AT_ONCE]
        # One example suffices for the word to have the same preceding text as in full prompts.
        rows = _whole(lm, [style.prompt(w.text, ["the"]) for w in chunk])
        places = positions(rows, [w.token for w in chunk])
        kept += [word for word, place in zip(chunk, places, strict=True) if place is not None]
    return kept


def positions(rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[int | None]:
    """The position of each row's token before the ending shared by all rows; None if it is not there.

    The ending is the most common sequence of tokens after the last occurrence of a row's token.
    """
    endings: Counter[tuple[int, ...]] = Counter()
    for row, token in zip(rows, tokens, strict=True):
        if token in row:
            endings[tuple(row[len(row) - row[::-1].index(token) :])] += 1
    if not endings:
        return [None] * len(rows)
    ending = list(endings.most_common(1)[0][0])
    places = [len(row) - 1 - len(ending) for row in rows]
    return [
        place if place >= 0 and list(row[place:]) == [token, *ending] else None
        for place, row, token in zip(places, rows, tokens, strict=True)
    ]


def read(
    lm: LanguageModel,
    words: Sequence[Word],
    examples: Sequence[Word],
    ctx: Context,
    *,
    shots: int,
    dice: random.Random,
    title: str = "absorption: words",
) -> Words:
    """The residual stream at each word, after `shots` examples drawn for it, never the word itself.

    If there are too few examples, all of them are shown. A word that does not keep its token is left out.
    Raises Skip if the model's context is too short.
    """
    import torch

    style, kept, parts = style_of(ctx), [], []
    with ctx.steps(title, len(words), "words") as steps:
        for start in range(0, len(words), _PROMPTS_AT_ONCE):
            chunk = words[start : start + _PROMPTS_AT_ONCE]
            prompts = [style.prompt(w.text, _drawn(w, examples, shots, dice)) for w in chunk]
            rows = _whole(lm, prompts)
            places = positions(rows, [w.token for w in chunk])
            found = [i for i, place in enumerate(places) if place is not None]
            kept += [chunk[i] for i in found]

            def done(number: int) -> None:
                steps.advance_to(start + number)  # noqa: B023

            chosen = [rows[i] for i in found]
            parts.append(_residuals(lm, chosen, [places[i] or 0 for i in found], ctx.site, done))
    return Words(tuple(kept), torch.cat(parts) if parts else torch.zeros(0, lm.d_model))


def _whole(lm: LanguageModel, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of the prompts; raises Skip if one would be cut, because its end matters."""
    from abench import token_rows

    rows = token_rows(lm, prompts, _NO_LIMIT)
    if lm.max_context is not None and any(len(row) >= lm.max_context for row in rows):
        raise Skip(
            f"a prompt with its examples does not fit in the model's context of {lm.max_context} tokens"
        )
    return rows


def _residuals(
    lm: LanguageModel,
    rows: Sequence[list[int]],
    places: Sequence[int],
    site: str,
    done: Callable[[int], None],
) -> Tensor:
    """The residual stream at one position of each row, [rows, d_model], in float32 on the CPU.

    `done` receives the number of rows so far.
    """
    import torch

    from abench import right_padded

    out, read = torch.zeros(len(rows), lm.d_model), 0
    for numbers, tokens, _ in right_padded(rows, lm):
        x = lm.residual(tokens, site)
        each = torch.arange(len(numbers), device=x.device)
        out[numbers] = x[each, torch.tensor([places[n] for n in numbers], device=x.device)].float().cpu()
        read += len(numbers)
        done(read)
    return out


def _drawn(word: Word, examples: Sequence[Word], shots: int, dice: random.Random) -> list[str]:
    """Texts of distinct examples, excluding the word."""
    drawn = dice.sample(examples, min(shots + 1, len(examples)))
    return [e.text for e in drawn if e != word][:shots]


def _is_word(text: str) -> bool:
    letters = text.removeprefix(" ")
    return letters.isascii() and letters.isalpha()
