"""Planted concepts: does a latent's side follow each pole of the tiny world's axes, on held-out text?

The tiny world is made of words whose poles are known (`abench.tinyworld.labels`), so what an SAE's latents
should find is known, too. `abench reliability` takes this score as the truth against which it checks the
metrics of other tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from abench import Amount, Context, Cost, CostSetting, Metric, Parts, Scores, Skip, Task, Work
from abench.tinyworld import AXES, labels

from ._shared.held_out import too_little_text
from ._shared.labelled import is_tiny

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csc_array
    from torch import Tensor

    from abench import SAE, LanguageModel

POLES = tuple(f"{axis}{sign}" for axis in AXES for sign in "-+")
FEWEST = 10
"""Minimum number of words of a pole in each half of the text, for the pole to count."""


class Planted(Task):
    """How well single latents follow the concepts of which the tiny world is made.

    The held-out text is halved. For each pole of each axis (`gender-`, `gender+`, …), the side of a latent
    that tells words of this pole from all other tokens best in the first half is taken, and its AUROC in the
    second half is measured. The score is the mean over poles; chance is 0.5. A signed latent has two sides,
    so one signed latent and a pair of opposite non-negative latents can both score 1.
    """

    name: ClassVar[str] = "planted"
    version: ClassVar[str] = "1"
    in_all: ClassVar[bool] = False
    truth: ClassVar[str | None] = "auroc"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "auroc",
            True,
            "planted",
            headline=True,
            description="AUROC of the best side of a latent, mean over the poles of the world's axes",
            items="poles.*",
        ),
    )

    tokens: int = Field(131_072, ge=2, le=10**9)
    """Maximum number of held-out tokens, both halves together; at most the evaluation's own number."""

    def skip(self, lm: LanguageModel, ctx: Context) -> str | None:
        if not is_tiny(ctx):
            return "the concepts in texts other than the tiny world's are not known"
        return too_little_text(lm, ctx)

    def cost(self, setting: CostSetting) -> Cost:
        rows = min(setting.held_out_rows(), -(-self.tokens // setting.context_size))
        tokens = rows * setting.context_size
        reading = Work(lower=tokens, passes=-(-rows // setting.evaluation.batch_size))
        return Cost(reading, Work(encoded=tokens))

    def prepare(self, lm: LanguageModel, ctx: Context) -> Words:
        """The residual stream at the words of both halves, and their poles."""
        words = self._words(lm, ctx)
        counts = [half.poles.sum(0) for half in words.halves]
        short = {
            pole: f"it has {int(min(first, second))} words in a half of the text, and {FEWEST} are needed"
            for pole, first, second in zip(POLES, *counts, strict=True)
            if min(first, second) < FEWEST
        }
        words.used.extend(pole for pole in POLES if pole not in short)
        ctx.rests_on(Parts("poles", tuple(words.used), short))
        if not words.used:
            raise Skip(f"no pole has {FEWEST} words in each half of the held-out text")
        return words

    def _words(self, lm: LanguageModel, ctx: Context) -> Words:
        import torch

        from abench import TokenRows, ordinary

        wanted = -(-min(self.tokens, ctx.evaluation.tokens) // ctx.context_size)
        wanted = min(wanted, ctx.evaluation.limit or wanted)
        text = TokenRows(lm, ctx.data, "held_out", ctx.context_size, seed=ctx.evaluation.seed)
        rows = text.batch(wanted)
        ctx.used(Amount("held-out tokens", rows.numel(), wanted * ctx.context_size))
        if len(rows) < 2:
            raise Skip("the held-out text does not fill two contexts, one for each half")
        residual, tokens = [], []
        for batch in torch.split(rows, ctx.evaluation.batch_size):
            mask = ordinary(batch, lm)
            residual.append(lm.residual(batch, ctx.site)[mask.to(lm.device)].float())
            tokens.append(batch[mask])
        # Cut at a row, so that no context is in both halves.
        cut = int(ordinary(rows[: len(rows) // 2], lm).sum())
        stream, ids = torch.cat(residual), torch.cat(tokens)
        poles = poles_of(ids, lm)
        return Words((Half(stream[:cut], poles[:cut]), Half(stream[cut:], poles[cut:])), [])

    def score(
        self, sae: SAE, prepared: Words, lm: LanguageModel, ctx: Context
    ) -> tuple[Scores, Mapping[str, Any]]:
        import numpy as np

        first, second = (auroc(sides_of(sae, half.residual), half.poles) for half in prepared.halves)
        best = first.argmax(1)
        found = {
            pole: float(second[number, best[number]])
            for number, pole in enumerate(POLES)
            if pole in prepared.used
        }
        return {"auroc": float(np.mean([*found.values()]))}, {"poles": found}


@dataclass(frozen=True, eq=False)
class Half:
    """One half of the held-out words."""

    residual: Tensor
    """[words, d_model]."""
    poles: NDArray[np.bool_]
    """Whether a word is of a pole, [words, poles]."""


@dataclass(frozen=True, eq=False)
class Words:
    """What all SAEs of a site share."""

    halves: tuple[Half, Half]
    """The first selects sides of latents, the second tests them."""
    used: list[str]
    """The poles that are frequent enough."""


def poles_of(tokens: Tensor, lm: LanguageModel) -> NDArray[np.bool_]:
    """Whether each of the tokens [tokens] is a word of each pole, [tokens, poles]."""
    import numpy as np

    ids, places = np.unique(tokens.cpu().numpy(), return_inverse=True)
    known = [labels().get(lm.tokenizer.decode([int(each)]).strip(), ()) for each in ids]
    of_ids = np.array([[pole in own for pole in POLES] for own in known], dtype=bool)
    found: NDArray[np.bool_] = of_ids[places]
    return found


def sides_of(sae: SAE, residual: Tensor) -> csc_array:
    """relu([z, −z]): the codes of residuals [words, d_model] by side of latents, [words, 2 · latents]."""
    import numpy as np
    from scipy.sparse import csc_array, hstack

    from abench import sparse_codes

    codes = sparse_codes(sae, residual)
    if not np.isfinite(codes.data).all():
        raise ValueError("the SAE's codes of some words are not finite")
    sides = csc_array(hstack([codes.maximum(0), (-codes).maximum(0)], format="csc"))
    sides.eliminate_zeros()
    return sides


def auroc(sides: csc_array, poles: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AUROC of each side [words, sides] for the words of each pole [words, poles], [poles, sides].

    It is the probability that the side is stronger at a word of the pole than at another word; ties count
    one half. 0.5 for a pole without words, or without others.
    """
    import numpy as np
    from scipy.stats import rankdata

    number = len(poles)
    silent = number - np.diff(sides.indptr)
    middle = (silent + 1) / 2  # the shared rank of the words at which a side is silent
    ranks = sides.astype(np.float64)
    for side in np.flatnonzero(silent < number):
        own = slice(sides.indptr[side], sides.indptr[side + 1])
        ranks.data[own] = silent[side] + rankdata(sides.data[own]) - middle[side]
    count = poles.sum(0).astype(np.float64)[:, None]
    sums = (ranks.T @ poles.astype(np.float64)).T + count * middle
    pairs = count * (number - count)
    found: NDArray[np.float64] = np.where(
        pairs > 0, (sums - count * (count + 1) / 2) / np.maximum(pairs, 1), 0.5
    )
    return found
