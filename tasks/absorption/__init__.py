"""First-letter absorption: a letter's latent stays silent because latents of specific words carry the letter.

This is sae-bench's evaluation. For non-negative SAEs it gives sae-bench's numbers, except for the random
initialisation of the probes; for all SAEs, scores are invariant to the signs and the order of latents.
Everything that does not depend on the SAE is computed once: prompts, residual stream, the probe on it, and
the words whose letter that probe knows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from abench import Amount, Context, Cost, CostSetting, Metric, Parts, Precondition, Scores, Skip, Task, View

from .._shared.labelled import is_tiny
from .._shared.settings import setting
from .cost import priced
from .latents import PoleWeights, both_poles, encoded, ranked, split_latents
from .probe import Probe, Training, train_probe
from .spelling import LETTERS, Words, candidates, read, style_of, usable
from .words import ProbeDirection, Thresholds, absorption

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csc_array, csr_array
    from torch import Tensor

    from abench import SAE, LanguageModel


_ABSORBED = ("mean_absorption_fraction_score", "mean_full_absorption_score", "mean_num_split_features")
"""The metrics that rest on the latents of letters."""


class Demands(NamedTuple):
    """Settings that depend on the number of words."""

    batch_size: int
    min_probe_f1: float
    min_letters: int


SAE_BENCH = Demands(4096, 0.6, 20)
TINY = Demands(32, 0.4, 8)
"""For the tiny world's 2,210 words: batches of 4,096 would give only 50 steps, and 1,768 training words are
too few for a linear probe that balances each letter against the rest to be precise on unseen words."""


class Absorption(Task):
    """First letters: how often do other latents carry a letter in place of the letter's own latents?"""

    name: ClassVar[str] = "absorption"
    version: ClassVar[str] = "3"
    views: ClassVar[tuple[View, ...]] = ("native", "split")
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "mean_absorption_fraction_score",
            False,
            "absorption",
            headline=True,
            paper="1 - score",
            description="absorbing latents' share of the letter's direction, mean over letters and words",
            items="letters.*.mean_absorption_fraction",
        ),
        Metric(
            "mean_full_absorption_score",
            False,
            "full absorption",
            headline=True,
            description="share of words whose letter is carried by one other latent while the letter's own "
            "latents are silent, mean over letters",
            items="letters.*.full_absorption_rate",
        ),
        Metric(
            "mean_num_split_features",
            None,
            "split latents",
            description="number of latents that represent a letter, mean over letters",
        ),
        Metric(
            "mean_sparse_probe_f1",
            True,
            "letter F1",
            description="F1 of a logistic regression on the latents that represent a letter, mean over "
            "letters; if it is low, letters have no latents of their own that could be absorbed",
            items="letters.*.f1",
        ),
        Metric("letters", None, description="number of letters that the probe on the residual stream knows"),
    )
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition(
            "letter_f1",
            "the mean F1 of the probes on the latents that represent a letter",
            0.5,
            "Letters have no latents of their own here, so nothing is absorbed when these stay silent.",
            metrics=_ABSORBED,
        ),
        Precondition(
            "site_f1",
            "the mean F1 of the letters' probe on the residual stream",
            0.6,
            "The model does not represent the letters well enough at this site.",
            metrics=_ABSORBED,
        ),
    )
    """Absorption is the failure of latents that otherwise find a letter (Chanin et al., arXiv 2409.14507).
    With an F1 of 0.5 there are two errors for every word that the latents find; below, more. 0.6 is the least
    F1 that sae-bench demands of the residual probe for each letter (`min_GT_probe_f1`)."""

    # The probe of the letters on the residual stream uses sae-bench's fixed learning rate.
    in_stream_units: ClassVar[frozenset[str]] = frozenset(
        [*(metric.name for metric in metrics), *(each.name for each in valid_if)]
    )

    examples: int = Field(10, ge=1, le=1000)
    """Worked examples before each word."""
    train_share: float = Field(0.8, gt=0, lt=1)
    """Share of the words used for training probes."""
    max_k: int = Field(10, ge=1, le=10**7)
    """Maximum number of latents that represent a letter (sae-bench: max_k_value)."""
    f1_jump: float = Field(0.03, ge=0, le=1e6)
    """Gain in F1 required for each additional latent (f1_jump_threshold)."""
    l1_decay: float = Field(0.01, ge=0, le=1e6)
    """Coefficient of the L1 norm in the probe that ranks latents (k_sparse_probe_l1_decay)."""
    epochs: int = Field(50, ge=1, le=100_000)
    """Epochs of both probes (k_sparse_probe_num_epochs)."""
    batch_size: int | None = Field(None, ge=1, le=10**7)
    """Words per training step of both probes (k_sparse_probe_batch_size); null means 4096, or 32 in the tiny
    world."""
    min_probe_f1: float | None = Field(None, ge=0, lt=1)
    """F1 of the residual probe above which a letter counts (min_GT_probe_f1); null means 0.6, or 0.4 in the
    tiny world."""
    min_letters: int | None = Field(None, ge=1, le=26)
    """Minimum number of letters for a score (min_feats_for_eval); null means 20, or 8 in the tiny world."""
    absorber_cosine: float = Field(Thresholds.absorber_cosine, ge=-1, le=1)
    """Minimum cosine of an absorbing pole with the probe."""
    absorbers: int = Field(Thresholds.absorbers, ge=1, le=10**7)
    """Maximum number of latents that absorb a letter together."""
    projection_share: float = Field(Thresholds.projection_share, gt=0, le=1e6)
    """Minimum share of the word's projection on the probe that the absorbers must contribute."""
    full_cosine: float = Field(Thresholds.full_cosine, ge=-1, le=1)
    """Minimum cosine with the probe of a single pole that fully absorbs a letter."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        self._words(lm, ctx, random.Random(ctx.evaluation.seed))
        return None

    def cost(self, setting: CostSetting) -> Cost | None:
        demands = TINY if setting.data.source == "tinyworld" else SAE_BENCH
        return priced(setting, self.examples, self.train_share, self.epochs, self.batch_size or demands[0])

    def prepare(self, lm: LanguageModel, ctx: Context) -> Spelled:
        """The residual stream at all words, the probe of the letters, and the words whose letter it knows.

        Raises Skip if the tokenizer has too few words or the probe knows too few letters.
        """
        demands = self._demands(ctx)
        dice = random.Random(ctx.evaluation.seed)
        learn, judge, left_out = self._words(lm, ctx, dice)
        ctx.used(Amount("words", len(learn) + len(judge), len(learn) + len(judge)))
        settings: dict[str, Any] = {"shots": self.examples, "dice": dice}
        train = read(lm, learn, learn, ctx, title="absorption: words for training", **settings)
        test = read(lm, judge, judge, ctx, title="absorption: words for testing", **settings)
        training = Training(demands.batch_size, self.epochs)
        with ctx.steps("absorption: probe on the residual stream", self.epochs, "epochs") as steps:
            probe = train_probe(
                train.residual, train.letters, training, _generator(ctx), done=steps.advance_to
            )
        logits = probe.logits(test.residual)
        f1 = _f1_of_letters(logits, test.letters)
        # A letter with which no training word begins, or every one does, cannot be distinguished.
        taught = [0 < n < len(train.words) for n in train.letters.bincount(minlength=26).tolist()]
        used = [letter for letter in range(26) if taught[letter] and f1[letter] > demands.min_probe_f1]
        if len(used) < demands.min_letters:
            fewer = setting(self.name, "min_letters", str(len(used)))
            raise Skip(
                f"a linear probe knows only {len(used)} of 26 letters at {ctx.site} (F1 above "
                f"{demands.min_probe_f1:g} on {len(judge):,} words), but {demands.min_letters} are needed"
                + (f"; score these letters with {fewer}" if used else "")
            )
        ctx.rests_on(_letters(used, f1, demands.min_probe_f1))
        known = [
            word
            for word, row in zip(test.words, logits, strict=True)
            if word.letter in used and row[word.letter] > 0
        ]
        ctx.measured("site_f1", mean(f1[letter] for letter in used))
        # Read again in new prompts, with all words as possible examples: sae-bench's absorption prompts.
        found = read(
            lm, known, [*learn, *judge], ctx, title="absorption: words that the probe knows", **settings
        )
        return Spelled(train, test, found, probe, f1, tuple(used), left_out)

    def score(
        self, sae: SAE, prepared: Spelled, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, dict[str, Any]]:
        from abench import SplitSAE

        codes = WordCodes.of(sae, prepared)
        weights = self._pole_weights(sae, codes, prepared, ctx)
        toward = weights.of_poles() if isinstance(sae, SplitSAE) else weights.of_latents()
        ranking = ranked(toward, self.max_k).tolist()
        letters = {
            LETTERS[letter]: self._of_letter(letter, ranking[letter], codes, prepared)
            for letter in ctx.track(prepared.used, "absorption: letters", "letters")
        }
        scores = _scores(list(letters.values()))
        ctx.measured("letter_f1", scores["mean_sparse_probe_f1"])
        return scores, _details(letters, prepared)

    def _of_letter(
        self, letter: int, ranking: Sequence[int], codes: WordCodes, prepared: Spelled
    ) -> OfLetter:
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
            ProbeDirection.of(codes.decoder, prepared.probe.weight[:, letter].numpy()),
            own.latents,
            Thresholds(self.absorber_cosine, self.absorbers, self.projection_share, self.full_cosine),
        )
        return OfLetter(fraction / len(rows), full / len(rows), own.latents, own.f1, len(rows))

    def _words(
        self, lm: LanguageModel, ctx: Context, dice: random.Random
    ) -> tuple[Sequence[Any], Sequence[Any], int]:
        """Training words, test words and the number of words left out; raises Skip for too few words."""

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
                f"{len(words)} words are too few: of the tokenizer's {len(every)} single-token words, "
                f"{left_out} are not a single token in a prompt"
            )
        return words[:cut], words[cut:], left_out

    def _pole_weights(self, sae: SAE, codes: WordCodes, prepared: Spelled, ctx: Context) -> PoleWeights:
        """The weights of the L1 probe, which both views of an SAE share."""
        from scipy.sparse import csr_array

        from abench import SplitSAE, base_of

        split = isinstance(sae, SplitSAE)
        base = base_of(sae)
        if base not in prepared.learnt:
            training = Training(self._demands(ctx).batch_size, self.epochs, self.l1_decay, l2=1e-6)
            train = csr_array(codes.train.tocsr())
            poles = train if split else both_poles(train)
            with ctx.steps("absorption: probe on latents", self.epochs, "epochs") as steps:
                prepared.learnt[base] = PoleWeights.learnt(
                    poles, prepared.train.letters, training, _generator(ctx), steps.advance_to
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
    """The words and probes on which all SAEs of a site are scored."""

    train: Words
    test: Words
    found: Words
    """The test words of used letters whose letter the probe knows, read again in new prompts."""
    probe: Probe
    f1: list[float]
    """F1 of the probe on the test words, for each of the 26 letters."""
    used: tuple[int, ...]
    left_out: int
    learnt: dict[Any, PoleWeights] = field(default_factory=dict)
    """SAE -> weights of its L1 probe, so that the split view need not train it again."""

    def along(self, letter: int) -> Any:
        """Projections of the found words' residuals on the letter's unit probe, [words], float64."""
        direction = self.probe.weight[:, letter]
        return (self.found.residual.double() @ (direction / direction.norm())).numpy()


@dataclass(frozen=True)
class WordCodes:
    """One SAE's codes of all words, [words, latents], in units of the residual stream."""

    train: csc_array
    test: csc_array
    found: csr_array
    decoder: Any
    """Directions of the latents, [latents, d_model], float64."""

    @classmethod
    def of(cls, sae: SAE, prepared: Spelled) -> WordCodes:
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
    """The latents that represent the letter, best first."""
    f1: float
    """F1 of the sparse probe on these latents."""
    words: int
    """Test words whose letter the residual probe knows."""


def _letters(used: Sequence[int], f1: Sequence[float], least: float) -> Parts:
    """The letters that are scored: those that the probe on the residual stream knows."""
    unknown = f"the F1 of a linear probe on the residual stream is not above {least:g}"
    untaught = "too few words begin with it to train a probe"
    reasons = {
        LETTERS[letter]: untaught if f1[letter] > least else unknown
        for letter in range(26)
        if letter not in used
    }
    return Parts("letters", tuple(LETTERS[letter] for letter in used), reasons)


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
    """F1 of the probe for each letter; 0 where it finds no word with the letter."""
    import torch

    said, true = logits > 0, torch.nn.functional.one_hot(letters, 26).bool()
    hits = (said & true).sum(0).double()
    f1: list[float] = (2 * hits / (said.sum(0) + true.sum(0)).clamp_min(1)).tolist()
    return f1


def _generator(ctx: Context) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(ctx.evaluation.seed)
