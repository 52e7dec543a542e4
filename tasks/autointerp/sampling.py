"""Choice of the windows of a pole or a latent: its strongest ones, weighted ones, and inactive ones.

As in sae-bench, the strongest windows and windows that are drawn in proportion to squared codes are divided
at random between explanation and detection, and random windows are added to the detection. Unlike there, no
two windows share a token, none crosses the border of a document, and the random ones are inactive.

All random numbers are functions of positions in the text and of a seed, so they depend neither on the order
in which firings are found nor on other latents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .windows import Examples, Window

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

    from .firings import Places, Values

_MOST_DRAWS = 4096
"""Random positions that are tried for inactive windows."""
_TOP, _WEIGHTED, _INACTIVE, _ORDER = range(4)
"""The purposes of random numbers."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of windows, and what counts as active."""

    top_shown: int = 10
    weighted_shown: int = 5
    top_tested: int = 2
    weighted_tested: int = 2
    inactive_tested: int = 10
    around: int = 10
    """Tokens on each side of the token by which a window is chosen."""
    active_from: float = 0.01
    """A token is active if its absolute code exceeds this share of the largest one."""

    @property
    def tested(self) -> int:
        return self.top_tested + self.weighted_tested + self.inactive_tested


class Sampler:
    """Draws examples from rows of tokens [rows, context]."""

    def __init__(self, lm: LanguageModel, rows: Tensor, sizes: Sizes) -> None:
        import numpy as np

        from abench import Texts, ordinary

        self._sizes, self._context = sizes, int(rows.shape[1])
        mask = ordinary(rows, lm).cpu().numpy()
        self._first, self._last = _windows(mask, sizes.around)
        self._ordinary = np.flatnonzero(mask)
        self._texts = Texts(lm, rows)

    def examples(self, places: Places, values: Values, seed: int) -> Examples | None:
        """Examples of a unit that fires at `places` with `values`; None if it has too few disjoint windows.

        With negative values, the unit is a latent as a whole; its stronger side is marked 1.
        """
        import numpy as np

        if not len(places):
            return None
        sizes, size = self._sizes, np.abs(values).astype(np.float64)
        strongest = int(np.argmax(size))
        threshold = sizes.active_from * size[strongest]
        picked = _Picked(self._first, self._last)
        top = picked.take(places[np.argsort(-size, kind="stable")], sizes.top_shown + sizes.top_tested)
        weighted = picked.take(
            self._weighted(places, size, top, threshold, seed), sizes.weighted_shown + sizes.weighted_tested
        )
        if len(top) < sizes.top_shown + sizes.top_tested or len(weighted) < (
            sizes.weighted_shown + sizes.weighted_tested
        ):
            return None
        codes = np.zeros(len(self._first) + 2 * sizes.around, dtype=np.float32)
        codes[places + sizes.around] = values * np.sign(values[strongest])
        inactive = picked.take(self._inactive(codes, threshold, seed), sizes.inactive_tested)
        if len(inactive) < sizes.inactive_tested:
            return None
        top, weighted = _shuffled(top, seed, _TOP), _shuffled(weighted, seed, _WEIGHTED)
        shown = top[: sizes.top_shown] + weighted[: sizes.weighted_shown]
        tested = top[sizes.top_shown :] + weighted[sizes.weighted_shown :] + inactive
        windows = [self._window(place, codes, threshold) for place in shown]
        return Examples(
            tuple(sorted(windows, key=lambda window: -window.strength)),
            tuple(self._window(place, codes, threshold) for place in _shuffled(tested, seed, _ORDER)),
        )

    def _weighted(self, places: Places, size: Any, top: list[int], threshold: float, seed: int) -> Places:
        """Places below the strongest ones, in the order of a draw in proportion to squared codes.

        Ordering by independent exponential variables divided by the weights is such a draw without
        replacement (Efraimidis and Spirakis 2006), and does not depend on the unit of the codes.
        """
        import numpy as np

        if not top:
            return places[:0]
        least = size[np.searchsorted(places, top)].min()
        among = (size < least) & (size > threshold)
        weights = (size[among] / least) ** 2
        return places[among][np.argsort(-np.log(uniform(places[among], seed, _WEIGHTED)) / weights)]

    def _inactive(self, codes: Any, threshold: float, seed: int) -> Iterable[int]:
        """Random positions around which the unit is nowhere active."""
        import numpy as np

        around = self._sizes.around
        draws = uniform(np.arange(_MOST_DRAWS), seed, _INACTIVE)
        for place in self._ordinary[(draws * len(self._ordinary)).astype(np.int64)].tolist():
            window = codes[self._first[place] + around : self._last[place] + 1 + around]
            if not (np.abs(window) > threshold).any():
                yield place

    def _window(self, place: int, codes: Any, threshold: float) -> Window:
        import numpy as np

        row, column = divmod(place, self._context)
        values = codes[place : place + 2 * self._sizes.around + 1].tolist()
        excerpt = self._texts.excerpt(row, column, values)
        marks = tuple(int(np.sign(v)) if abs(v) > threshold else 0 for v in excerpt.values)
        return Window(excerpt.tokens, marks, max(abs(v) for v in excerpt.values))


class _Picked:
    """Places whose windows share no token."""

    def __init__(self, first: Any, last: Any) -> None:
        import numpy as np

        self._first, self._last = first, last
        self._taken = np.zeros(len(first), dtype=bool)

    def take(self, candidates: Any, number: int) -> list[int]:
        """The first `number` candidates whose windows are disjoint from all that were taken so far."""
        found: list[int] = []
        for place in candidates:
            if len(found) == number:
                break
            window = slice(self._first[place], self._last[place] + 1)
            if not self._taken[window].any():
                self._taken[window] = True
                found.append(int(place))
        return found


def _windows(mask: Any, around: int) -> tuple[Any, Any]:
    """First and last position of the window around each position of the flattened mask [rows, context].

    A window ends with its document, that is, at special tokens, and with its row.
    """
    import numpy as np

    rows, context = mask.shape
    columns = np.broadcast_to(np.arange(context), mask.shape)
    start = np.maximum.accumulate(np.where(mask, 0, columns + 1), axis=1)
    end = np.minimum.accumulate(np.where(mask, context - 1, columns - 1)[:, ::-1], axis=1)[:, ::-1]
    offset = np.arange(rows)[:, None] * context
    first = np.maximum(columns - around, start) + offset
    last = np.minimum(columns + around, end) + offset
    return first.ravel(), last.ravel()


def _shuffled(places: list[int], seed: int, purpose: int) -> list[int]:
    import numpy as np

    keys = uniform(np.array(places, dtype=np.int64), seed, _ORDER + 1 + purpose)
    return [places[each] for each in np.argsort(keys)]


def uniform(numbers: Any, seed: int, purpose: int) -> Any:
    """A random number in (0, 1) for each of some whole numbers, by the generator SplitMix64."""
    import numpy as np

    z = np.asarray(numbers).astype(np.uint64) + np.uint64((seed + purpose * 0x632BE59BD9B4E019) % 2**64)
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
