"""First-letter absorption: where a latent for a letter stays silent because a word's own latents carry it.

sae-bench's evaluation with its numbers for non-negative SAEs (its random start of the probes apart), and
scores that do not change when latents change sign or places for all others. What does not depend on the SAE
is made once: prompts, residual stream, the probe on it, and the words whose letter that probe knows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from abench import Amount, Context, Metric, Scores, Skip, Task, View

from .absorption_latents import PoleWeights, both_poles, encoded, ranked, split_latents
from .absorption_probe import Probe, Training, train_probe
from .absorption_words import Direction, Thresholds, absorption
from .labelled import is_tiny
from .spelling import LETTERS, Words, candidates, read, style_of, usable

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csc_array, csr_array
    from torch import Tensor

    from abench import LanguageModel


class Demands(NamedTuple):
    """What depends on how many words there are."""

    batch_size: int
    min_probe_f1: float
    min_letters: int


SAE_BENCH = Demands(4096, 0.6, 20)
TINY = Demands(32, 0.4, 8)
"""For the tiny world's 2,210 words: batches of 4,096 would make 50 steps in all, and 1,768 words are too few
for a linear probe that balances each letter against the rest to be precise on words it has not seen."""


class Absorption(Task):
    """First letters: how often other latents carry a letter in place of the latents that stand for it."""

    name: ClassVar[str] = "absorption"
    version: ClassVar[str] = "2"
    views: ClassVar[tuple[View, ...]] = ("native", "split")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "mean_absorption_fraction_score",
            False,
            "absorption",
            headline=True,
            paper="1 - score",
            description="mean over letters and words of the absorbers' share of the letter's direction",
        ),
        Metric(
            "mean_full_absorption_score",
            False,
            "full absorption",
            headline=True,
            description="share of words whose letter is carried by one latent while its own are silent, "
            "mean over letters",
        ),
        Metric(
            "mean_num_split_features",
            None,
            "split latents",
            description="latents that stand for a letter, mean over letters",
        ),
        Metric(
            "mean_sparse_probe_f1",
            True,
            "letter F1",
            description="F1 of a logistic regression on the latents that stand for a letter, mean over "
            "letters; where it is low, letters have no latents of their own to be absorbed",
        ),
        Metric("letters", None, description="letters that the probe on the residual stream knows"),
    )

    # The letters' probe learns from the residual stream at the rate that sae-bench fixes.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(metric.name for metric in metrics)

    examples: int = Field(10, ge=1, le=1000)
    """Worked examples before each word."""
    train_share: float = Field(0.8, gt=0, lt=1)
    """Share of the words that probes learn from."""
    max_k: int = Field(10, ge=1, le=10**7)
    """The most latents that may stand for a letter (sae-bench: max_k_value)."""
    f1_jump: float = Field(0.03, ge=0, le=1e6)
    """What one more latent must add to the F1 (f1_jump_threshold)."""
    l1_decay: float = Field(0.01, ge=0, le=1e6)
    """Weight of the L1 norm that ranks latents (k_sparse_probe_l1_decay)."""
    epochs: int = Field(50, ge=1, le=100_000)
    """Epochs of both probes (k_sparse_probe_num_epochs)."""
    batch_size: int | None = Field(None, ge=1, le=10**7)
    """Words a step of both probes (k_sparse_probe_batch_size); null is 4096, and 32 in the tiny world."""
    min_probe_f1: float | None = Field(None, ge=0, lt=1)
    """A letter counts if the residual probe's F1 is above it (min_GT_probe_f1); null is 0.6, and 0.4 in the
    tiny world."""
    min_letters: int | None = Field(None, ge=1, le=26)
    """Fewer letters give no score (min_feats_for_eval); null is 20, and 8 in the tiny world."""
    absorber_cosine: float = Field(Thresholds.absorber_cosine, ge=-1, le=1)
    """The least cosine of an absorbing pole with the probe."""
    absorbers: int = Field(Thresholds.absorbers, ge=1, le=10**7)
    """The most latents that absorb a letter together."""
    projection_share: float = Field(Thresholds.projection_share, gt=0, le=1e6)
    """The absorbers' least share of the word's projection on the probe."""
    full_cosine: float = Field(Thresholds.full_cosine, ge=-1, le=1)
    """The least cosine of the pole that absorbs a letter alone."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._words(lm, ctx, random.Random(ctx.evaluation.seed))
        return None

    def prepare(self, lm: LanguageModel, ctx: Context) -> Spelled:
        """Residual stream at all words, the letters' probe, and the words whose letter it knows.

        Raises Skip if the tokenizer has too few words or the probe knows too few letters.
        """
        demands = self._demands(ctx)
        dice = random.Random(ctx.evaluation.seed)
        learn, judge, left_out = self._words(lm, ctx, dice)
        ctx.used(Amount("words", len(learn) + len(judge), len(learn) + len(judge)))
        ctx.say(f"absorption: the residual stream at {len(learn) + len(judge):,} words")
        train = read(lm, learn, learn, ctx, shots=self.examples, dice=dice)
        test = read(lm, judge, judge, ctx, shots=self.examples, dice=dice)
        training = Training(demands.batch_size, self.epochs)
        probe = train_probe(train.residual, train.letters, training, _generator(ctx))
        logits = probe.logits(test.residual)
        f1 = _f1_of_letters(logits, test.letters)
        # A letter that no word to learn from begins with, or each one does, cannot be told from the others.
        taught = [0 < n < len(train.words) for n in train.letters.bincount(minlength=26).tolist()]
        used = [letter for letter in range(26) if taught[letter] and f1[letter] > demands.min_probe_f1]
        if len(used) < demands.min_letters:
            raise Skip(
                f"a linear probe knows only {len(used)} of 26 letters at {ctx.site} (F1 above "
                f"{demands.min_probe_f1:g} on {len(judge):,} words), and {demands.min_letters} are needed"
            )
        known = [
            word
            for word, row in zip(test.words, logits, strict=True)
            if word.letter in used and row[word.letter] > 0
        ]
        # In prompts of their own again, with all words as examples: sae-bench's absorption prompts.
        found = read(lm, known, [*learn, *judge], ctx, shots=self.examples, dice=dice)
        return Spelled(train, test, found, probe, f1, tuple(used), left_out)

    def score(
        self, sae: Any, prepared: Spelled, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        from abench import SplitSAE

        codes = Codes.of(sae, prepared)
        weights = self._pole_weights(sae, codes, prepared, ctx)
        toward = weights.of_poles() if isinstance(sae, SplitSAE) else weights.of_latents()
        ranking = ranked(toward, self.max_k).tolist()
        letters = {
            LETTERS[letter]: self._of_letter(letter, ranking[letter], codes, prepared)
            for letter in prepared.used
        }
        return _scores(list(letters.values())), _details(letters, prepared)

    def _of_letter(self, letter: int, ranking: Sequence[int], codes: Codes, prepared: Spelled) -> OfLetter:
        import numpy as np

        own = split_latents(
            ranking,
            codes.train,
            (prepared.train.letters == letter).numpy(),
            codes.test,
            (prepared.test.letters == letter).numpy(),
            jump=self.f1_jump,
        )
        rows = np.flatnonzero(prepared.found.letters.numpy() == letter)
        fraction, full = absorption(
            codes.found[rows],
            prepared.along(letter)[rows],
            Direction.of(codes.decoder, prepared.probe.weight[:, letter].numpy()),
            own.latents,
            Thresholds(self.absorber_cosine, self.absorbers, self.projection_share, self.full_cosine),
        )
        return OfLetter(fraction / len(rows), full / len(rows), own.latents, own.f1, len(rows))

    def _words(
        self, lm: LanguageModel, ctx: Context, dice: random.Random
    ) -> tuple[Sequence[Any], Sequence[Any], int]:
        """Words to learn from, words to judge by, and how many were left out; Skip for too few."""

        def find() -> tuple[list[Any], list[Any]]:
            every = candidates(lm, ctx)
            return every, usable(lm, every, style_of(ctx))

        every, found = ctx.once("words", find)
        words, left_out = list(found), len(every) - len(found)
        dice.shuffle(words)
        words = words[: ctx.evaluation.limit]
        cut = int(len(words) * self.train_share)
        if min(cut, len(words) - cut) < 2:
            raise Skip(
                f"{len(words)} words are too few: of the tokenizer's {len(every)} words of one token, "
                f"{left_out} are not one in a prompt"
            )
        return words[:cut], words[cut:], left_out

    def _pole_weights(self, sae: Any, codes: Codes, prepared: Spelled, ctx: Context) -> PoleWeights:
        """The L1 probe's weights; both views of an SAE share them."""
        from scipy.sparse import csr_array

        from abench import SplitSAE

        split = isinstance(sae, SplitSAE)
        base = sae.base if split else sae
        if base not in prepared.learnt:
            training = Training(self._demands(ctx).batch_size, self.epochs, self.l1_decay, l2=1e-6)
            train = csr_array(codes.train.tocsr())
            prepared.learnt[base] = PoleWeights.learnt(
                train if split else both_poles(train), prepared.train.letters, training, _generator(ctx)
            )
        return prepared.learnt[base]

    def _demands(self, ctx: Context) -> Demands:
        usual = TINY if is_tiny(ctx) else SAE_BENCH
        return Demands(
            usual.batch_size if self.batch_size is None else self.batch_size,
            usual.min_probe_f1 if self.min_probe_f1 is None else self.min_probe_f1,
            usual.min_letters if self.min_letters is None else self.min_letters,
        )


@dataclass
class Spelled:
    """What all SAEs of a site are scored on."""

    train: Words
    test: Words
    found: Words
    """The test words of used letters whose letter the probe knows, read again."""
    probe: Probe
    f1: list[float]
    """The probe's, on the test words, for each of the 26 letters."""
    used: tuple[int, ...]
    left_out: int
    learnt: dict[Any, PoleWeights] = field(default_factory=dict)
    """SAE -> its L1 probe, so that the split view need not train it again."""

    def along(self, letter: int) -> Any:
        """Projections of the found words' residuals on the letter's unit probe, [words], float64."""
        direction = self.probe.weight[:, letter]
        return (self.found.residual.double() @ (direction / direction.norm())).numpy()


@dataclass(frozen=True)
class Codes:
    """One SAE's codes of all words in units of the residual stream, [words, latents], as they are read."""

    train: csc_array
    test: csc_array
    found: csr_array
    decoder: Any
    """Directions of the latents, [latents, d_model], float64."""

    @classmethod
    def of(cls, sae: Any, prepared: Spelled) -> Codes:
        from abench import latent_directions

        train, test, found = (
            encoded(sae, words.residual) for words in (prepared.train, prepared.test, prepared.found)
        )
        return cls(train.tocsc(), test.tocsc(), found, latent_directions(sae).detach().double().cpu().numpy())


@dataclass(frozen=True)
class OfLetter:
    """One letter's part of the scores."""

    mean_absorption_fraction: float
    full_absorption_rate: float
    latents: tuple[int, ...]
    """Those that stand for the letter, best first."""
    f1: float
    """Of the sparse probe on these latents."""
    words: int
    """Test words whose letter the residual probe knows."""


def _scores(letters: Sequence[OfLetter]) -> dict[str, float]:
    return {
        "mean_absorption_fraction_score": mean(each.mean_absorption_fraction for each in letters),
        "mean_full_absorption_score": mean(each.full_absorption_rate for each in letters),
        "mean_num_split_features": mean(float(len(each.latents)) for each in letters),
        "mean_sparse_probe_f1": mean(each.f1 for each in letters),
        "letters": float(len(letters)),
    }


def _details(letters: dict[str, OfLetter], prepared: Spelled) -> dict[str, Any]:
    several = list(letters.values()) if len(letters) > 1 else []
    spread = {
        "std_dev_absorption_fraction_score": [each.mean_absorption_fraction for each in several],
        "std_dev_full_absorption_score": [each.full_absorption_rate for each in several],
        "std_dev_num_split_features": [float(len(each.latents)) for each in several],
    }
    return {
        "letters": {name: asdict(each) for name, each in letters.items()},
        "probe_f1": {name: prepared.f1[number] for number, name in enumerate(LETTERS)},
        "words": len(prepared.train.words) + len(prepared.test.words),
        "words_left_out": prepared.left_out,
        **{name: stdev(values) for name, values in spread.items() if values},
    }


def _f1_of_letters(logits: Tensor, letters: Tensor) -> list[float]:
    """F1 of the probe for each letter, 0 where it finds no word of it."""
    import torch

    said, true = logits > 0, torch.nn.functional.one_hot(letters, 26).bool()
    hits = (said & true).sum(0).double()
    f1: list[float] = (2 * hits / (said.sum(0) + true.sum(0)).clamp_min(1)).tolist()
    return f1


def _generator(ctx: Context) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(ctx.evaluation.seed)
