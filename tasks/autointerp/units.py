"""What is explained of a latent: the latent as a whole, and each of its poles by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .._shared.drawn import digest

if TYPE_CHECKING:
    from .firings import Drawn, Places, Values
    from .sampling import Sampler
    from .windows import Examples

Part = Literal["whole", "main", "other"]
"""`main` is the pole that fires more often, `other` the opposite one: names that no sign changes."""


@dataclass(frozen=True)
class Unit:
    """A latent as a whole or one of its poles; without examples if it fires too rarely."""

    latent: int
    part: Part
    examples: Examples | None


def units_of(drawn: Drawn, sampler: Sampler, seed: int) -> Iterator[Unit]:
    """The units of a latent: the whole and the main pole, and the other pole if it ever fires.

    A latent that fires with one sign only is its main pole, so both have the same examples.
    """
    main, *others = sorted(_poles(drawn), key=_Pole.rank, reverse=True)
    of_main = main.examples(sampler, seed)
    if others:
        name = digest(abs(drawn.mark), b"whole")
        of_whole = sampler.examples(drawn.places, drawn.values, _seeded(name, seed))
    else:
        of_whole = of_main
    yield Unit(drawn.latent, "whole", of_whole)
    yield Unit(drawn.latent, "main", of_main)
    for other in others:
        yield Unit(drawn.latent, "other", other.examples(sampler, seed))


@dataclass(frozen=True, eq=False)
class _Pole:
    """One sign of a latent: its mark, its firings and their absolute codes."""

    mark: float
    places: Places
    values: Values

    def rank(self) -> tuple[int, float, float]:
        """By number of firings; equal numbers by the largest code, and then by direction."""
        return len(self.places), float(self.values.max()), self.mark

    def examples(self, sampler: Sampler, seed: int) -> Examples | None:
        return sampler.examples(self.places, self.values, _seeded(digest(self.mark), seed))


def _poles(drawn: Drawn) -> Iterator[_Pole]:
    for sign in (1.0, -1.0):
        mine = sign * drawn.values > 0
        if mine.any():
            yield _Pole(sign * drawn.mark + 0.0, drawn.places[mine], sign * drawn.values[mine])


def _seeded(name: bytes, seed: int) -> int:
    return int.from_bytes(name, "little") + seed
