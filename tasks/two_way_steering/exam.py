"""Steered continuations of stems, and what they show: the pole, fluency, and whether they are degenerate.

Many settings are generated in one batch, because a batch of a few stems takes a model about as long as a
batch of hundreds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from abench.judges import is_degenerate

from .concepts import PoleReader
from .movers import Move, PartedError, Together

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from abench import LanguageModel

_TOKENS_AT_ONCE = 16_384
"""Largest batch that is generated at once, stems and continuations together."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the continuations of all stems show at one setting."""

    poles: NDArray[np.float64]
    """[readers, stems]: 1 or 0 for a pole, 1/2 for neither; the concept's own reader comes first."""
    nats: NDArray[np.float64]
    """[stems]: −log p of each continuation under the unsteered model, summed over its tokens."""
    tokens: NDArray[np.int64]
    """[stems]: the length of each continuation."""
    degenerate: NDArray[np.bool_]
    """[stems]."""

    @property
    def share(self) -> float:
        """The share of the positive pole; a continuation that shows neither pole counts one half."""
        return float(self.poles[0].mean())

    @property
    def nats_per_token(self) -> float | None:
        """Mean over the tokens of all continuations; None if no continuation has a token."""
        number = int(self.tokens.sum())
        return float(self.nats.sum()) / number if number else None

    @property
    def degenerate_share(self) -> float:
        return float(self.degenerate.mean())


@dataclass(frozen=True, eq=False)
class Exam:
    """The stems of one concept and part. Continuations that occur again are not measured again."""

    lm: LanguageModel
    site: str
    stems: tuple[str, ...]
    new_tokens: int
    _nats: dict[tuple[int, str], tuple[float, int]] = field(default_factory=dict)

    def unsteered(self, readers: Sequence[PoleReader]) -> Outcome:
        """The outcome without any intervention."""
        order = self._order()
        said = self.lm.generate(
            [self.stems[i] for i in order], max_new_tokens=self.new_tokens, batch_size=len(order)
        )
        return self._outcomes([_placed(said, order)], readers)[0]

    def measure(
        self,
        moves: Sequence[Move],
        readers: Sequence[PoleReader],
        done: Callable[[int], None] = lambda _done: None,
    ) -> list[Outcome]:
        """The outcome of each move; `done` receives the number of moves so far."""
        found: list[Outcome] = []
        size = max(1, _TOKENS_AT_ONCE // (len(self.stems) * (max(map(len, self._begun)) + self.new_tokens)))
        for start in range(0, len(moves), size):
            some = moves[start : start + size]
            found += self._outcomes(self.continued(some), readers)
            done(len(found))
        return found

    def continued(self, moves: Sequence[Move]) -> list[list[str]]:
        """The greedy continuation of each stem under each move, [moves][stems], from one batch."""
        from abench import steered

        order = self._order()
        prompts = [self.stems[i] for i in order for _ in moves]
        try:
            with steered(self.lm, self.site, Together(moves, len(prompts))):
                said = self.lm.generate(prompts, max_new_tokens=self.new_tokens, batch_size=len(prompts))
        except PartedError:
            # Not enough memory for all moves at once.
            return [each for move in moves for each in self.continued([move])]
        return [_placed(said[number :: len(moves)], order) for number in range(len(moves))]

    def _outcomes(self, said: Sequence[Sequence[str]], readers: Sequence[PoleReader]) -> list[Outcome]:
        self._read([each for replies in said for each in enumerate(replies)])
        return [self._outcome(replies, readers) for replies in said]

    def _outcome(self, replies: Sequence[str], readers: Sequence[PoleReader]) -> Outcome:
        import numpy as np

        nats, tokens = zip(*(self._nats[each] for each in enumerate(replies)), strict=True)
        return Outcome(
            np.stack([reader(replies) for reader in readers]),
            np.array(nats),
            np.array(tokens, dtype=np.int64),
            np.array([is_degenerate(reply) for reply in replies]),
        )

    def _read(self, said: Sequence[tuple[int, str]]) -> None:
        """Measure the nats of continuations (stem, reply) that have not been measured."""
        from abench import right_padded

        new = [each for each in dict.fromkeys(said) if each not in self._nats]
        if not new:
            return
        begun = [self._begun[stem] for stem, _ in new]
        then = self.lm.token_ids([reply for _, reply in new])
        rows = [first + more for first, more in zip(begun, then, strict=True)]
        for numbers, tokens, _ in right_padded(rows, self.lm):
            size = self.lm.rows_with_logits(tokens.shape[1])
            for start in range(0, len(numbers), size):
                some = numbers[start : start + size]
                scores = self.lm.log_probs(tokens[start : start + size]).double().cpu()
                for row, number in zip(scores, some, strict=True):
                    own = row[len(begun[number]) - 1 : len(rows[number]) - 1]
                    self._nats[new[number]] = (-float(own.sum()), len(own))

    def _order(self) -> list[int]:
        """The stems by length, in which order `generate` leaves the rows of a batch."""
        return sorted(range(len(self.stems)), key=lambda stem: len(self._begun[stem]))

    @cached_property
    def _begun(self) -> list[list[int]]:
        """The tokens of each stem, after BOS if there is one."""
        from abench import token_rows

        longest = max(map(len, self.stems))
        return token_rows(self.lm, self.stems, self.lm.max_context or longest + 1)


def _placed(said: Sequence[str], order: Sequence[int]) -> list[str]:
    """Continuations in the order of the stems, from those in another order."""
    found = [""] * len(order)
    for stem, reply in zip(order, said, strict=True):
        found[stem] = reply
    return found
