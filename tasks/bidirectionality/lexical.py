"""A judge of a latent's two sides that asks no language model: are the words at a side's peaks alike?

Words are alike if the language model's own input embeddings are. A side is about something if the words at
its peaks are more alike than words drawn from the text around them would be by chance. The judge sees neither
the text around a peak nor the next word, and it cannot tell opposites from other related words, so it never
answers `opposites`.

The constants were chosen on constructed latents (`validation.py`) of the seeds 1 and 2, on the bundled model
and on SmolLM2-135M; the page of the task states its accuracy on those of seed 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from abench.judges import PoleKind, PoleVerdict

from . import words as vectors
from .words import WordVectors, words_of

if TYPE_CHECKING:
    from torch import Tensor

    from abench import Context, Excerpt, LanguageModel, LatentContexts

CHANCE = 0.03
"""Maximum probability that words drawn from the surrounding text are as alike as those of a side."""
PURITY = 0.75
"""Minimum share of a side's contexts that must belong to the others."""
NEARER_THAN = 0.75
"""A context belongs to the others if its word is nearer to their mean than this share of the background."""
APART = 0.05
"""Two sides are about different subjects if, with their contexts exchanged at random, they are as far apart
with at most this probability."""
BACKGROUND = 0.75
"""Share of the tokens around a peak that are background: those at which the side is weakest, because it is
often strong at words that are alike, too."""
LEAST_BACKGROUND = 10
"""Minimum number of different words in the background; with fewer, the verdict is invalid, because chance is
unknown."""
DRAWS = 1000
"""Number of random draws per test."""
_NAMED_WORDS = 3
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LexicalPoles:
    """Judges sides by the likeness of the words at their peaks, in the embeddings of a language model.

    A verdict depends only on the model and on the latent's own contexts.
    """

    lm: LanguageModel
    model: dict[str, Any]
    """What identifies the model."""
    name: str = "lexical"

    @classmethod
    def of(cls, lm: LanguageModel, ctx: Context) -> LexicalPoles:
        return cls(lm, {"name": lm.name, **ctx.model})

    def spec(self) -> dict[str, Any]:
        return {
            "judge": self.name,
            "version": 1,
            "model": self.model,
            "chance": CHANCE,
            "purity": PURITY,
            "nearer_than": NEARER_THAN,
            "apart": APART,
            "background": [BACKGROUND, LEAST_BACKGROUND],
            "draws": DRAWS,
            "vectors": [vectors.SAMPLED_TOKENS, vectors.FLOOR, vectors.POWER],
        }

    def judge(self, latents: Sequence[LatentContexts]) -> list[PoleVerdict]:
        return [self._verdict(each) for each in latents]

    @cached_property
    def _vectors(self) -> WordVectors:
        return WordVectors(self.lm)

    def _verdict(self, latent: LatentContexts) -> PoleVerdict:
        sides = [peaks_of(side) for side in (latent.positive, latent.negative)]
        background = background_of(latent)
        if len(background) < LEAST_BACKGROUND:
            return PoleVerdict("invalid")
        around = self._vectors.of(list(background))
        counts = around.new_tensor(list(background.values()))
        centre = counts @ around / counts.sum()
        around = _units(around - centre)
        units = [_units(self._vectors.of(peaks) - centre) if peaks else around[:0] for peaks in sides]
        coherent = [is_about_something(each, around, counts) for each in units]
        names = [_named(peaks) if found else "" for peaks, found in zip(sides, coherent, strict=True)]
        return PoleVerdict(_kind(coherent, units), *names)


def _kind(coherent: Sequence[bool], units: Sequence[Tensor]) -> PoleKind:
    if not any(coherent):
        return "none"
    return "bidirectional" if all(coherent) and are_apart(*units) else "unidirectional"


def peaks_of(side: Sequence[Excerpt]) -> list[str]:
    """The words at a side's peaks, sorted, so that nothing depends on the order of contexts."""
    return sorted(next(word.text for word in words_of(each.tokens) if each.peak < word.end) for each in side)


def background_of(latent: LatentContexts) -> dict[str, int]:
    """Word -> its number around the peaks of both sides, where the side is weak; sorted by word."""
    counts: Counter[str] = Counter()
    for side, sign in ((latent.positive, 1), (latent.negative, -1)):
        for each in side:
            counts.update(_weak_words(each, sign))
    return dict(sorted(counts.items()))


def _weak_words(excerpt: Excerpt, sign: int) -> list[str]:
    strengths = [sign * value for value in excerpt.values]
    around = [word for word in words_of(excerpt.tokens) if not word.start <= excerpt.peak < word.end]
    ranked = sorted(strength for word in around for strength in strengths[word.start : word.end])
    if not ranked:
        return []
    # With ties, as between tokens at which a sparse code is zero, all of them are background.
    most = ranked[min(int(BACKGROUND * len(ranked)), len(ranked) - 1)]
    return [word.text for word in around if max(strengths[word.start : word.end]) <= most]


def is_about_something(side: Tensor, around: Tensor, counts: Tensor) -> bool:
    """Whether a side's unit vectors [contexts, d] are alike, compared with those of surrounding words.

    `around` [words, d] are the unit vectors of the different words of the background and `counts` [words] how
    often they occur. Two conditions: few draws of as many words have a sum as long as the side's, and most
    contexts belong to the others, so that a few very similar ones do not suffice.
    """
    n = len(side)
    if n < 2:
        return False
    total = side.sum(0)
    others = _units(total - side)
    nearness = (side * others).sum(1)
    limits = _quantiles(around @ others.T, counts, NEARER_THAN)
    belong = int((nearness > limits).sum())
    return belong >= PURITY * n and _by_chance(float(total @ total), n, around, counts) <= CHANCE


def _quantiles(values: Tensor, counts: Tensor, share: float) -> Tensor:
    """For each column of values [words, n], the least value that this share of the words do not exceed."""
    ordered, order = values.sort(0)
    reached = counts[order].cumsum(0) >= share * counts.sum()
    # The first row that reaches the share.
    first = reached.to(counts.dtype).argmax(0, keepdim=True)
    found: Tensor = ordered.gather(0, first)[0]
    return found


def _by_chance(squared_length: float, n: int, around: Tensor, counts: Tensor) -> float:
    """Probability that n words drawn from the background have a sum of at least this squared length."""
    drawn = counts.multinomial(DRAWS * n, replacement=True, generator=_generator()).reshape(DRAWS, n)
    times = counts.new_zeros(DRAWS, len(counts)).scatter_add(1, drawn, counts.new_ones(DRAWS, n))
    lengths = (times @ around).square().sum(1)
    return (1 + int((lengths >= squared_length - _ROUNDING).sum())) / (DRAWS + 1)


def are_apart(first: Tensor, second: Tensor) -> bool:
    """Whether two sides' unit vectors [contexts, d] differ more than by chance: a permutation test.

    The statistic is the sum of the cosines between contexts of different sides, which is low for sides that
    are apart. It does not depend on which side comes first.
    """
    import torch

    both = torch.cat([first, second])
    n, smaller = len(both), min(len(first), len(second))
    # The order of the pooled contexts must not depend on the order of the sides.
    order = sorted(range(n), key=lambda i: both[i].tolist())
    cosines = (both @ both.T)[order][:, order]
    is_first = (both.new_tensor(order) < len(first)).to(both.dtype)[None]
    places = torch.rand(DRAWS, n, generator=_generator(), dtype=both.dtype).argsort(1)
    exchanged = (places < smaller).to(both.dtype)
    observed, by_chance = (((chosen @ cosines) * (1 - chosen)).sum(1) for chosen in (is_first, exchanged))
    as_low = int((by_chance <= observed + _ROUNDING).sum())
    return (1 + as_low) / (DRAWS + 1) <= APART


def _units(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays."""
    unit: Tensor = x / x.norm(dim=-1, keepdim=True).clamp_min(_ROUNDING)
    return unit


def _generator() -> Any:
    """A new generator for each test, so that a verdict depends on nothing that was judged before."""
    import torch

    return torch.Generator().manual_seed(0)


def _named(peaks: Sequence[str]) -> str:
    """The most frequent words of a side."""
    counts = Counter(word.strip() or repr(word)[1:-1] for word in peaks)
    most = sorted(counts, key=lambda word: (-counts[word], word))
    return ", ".join(most[:_NAMED_WORDS])
