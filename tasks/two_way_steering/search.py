"""From movers to results: all settings on few stems, the best on more, the chosen ones on the test stems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abench import Skip

from .concepts import PoleReader, TwoPoles
from .ends import Ends, Kind, Limits, Ray, Setting, lost, ranked, ray_of
from .exam import Exam, Outcome
from .movers import Mover

if TYPE_CHECKING:
    from abench import LanguageModel

FINALISTS = 2
"""Pairs of ends per method that are measured again on all validation stems."""

_DIGITS = 4
"""Decimals of numbers that are stored for tables and figures."""


@dataclass(frozen=True, eq=False)
class Part:
    """The stems of a part, and what the unsteered model makes of them."""

    exam: Exam
    readers: Sequence[PoleReader]
    """The concept's own reader first."""
    unsteered: Outcome

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        site: str,
        stems: tuple[str, ...],
        new_tokens: int,
        readers: Sequence[PoleReader],
    ) -> Part:
        exam = Exam(lm, site, stems, new_tokens)
        unsteered = exam.unsteered(readers)
        if unsteered.nats_per_token is None:
            raise Skip(f"{lm.name} continues none of the {len(stems)} stems, such as {stems[0]!r:.80}")
        return cls(exam, readers, unsteered)

    def measured(
        self, movers: Sequence[Mover], settings: Sequence[Setting], unit: float
    ) -> dict[Setting, Outcome]:
        """The outcome of each setting; strengths are multiplied by `unit`."""
        moves = [(movers[number], strength * unit) for number, strength in settings]
        return dict(zip(settings, self.exam.measure(moves, self.readers), strict=True))

    def along(
        self,
        movers: Sequence[Mover],
        rays: Iterable[Ray],
        strengths: Sequence[float],
        unit: float,
        limits: Limits,
    ) -> dict[Setting, Outcome]:
        """The outcomes of each ray at rising strengths, until it is far beyond the limits."""
        found: dict[Setting, Outcome] = {}
        left = sorted(rays)
        for strength in strengths:
            new = self.measured(movers, [(mover, way * strength) for mover, way in left], unit)
            found |= new
            left = [
                ray_of(setting)
                for setting, outcome in new.items()
                if not limits.far_exceeded(outcome, self.unsteered)
            ]
        return found


@dataclass(frozen=True, eq=False)
class Found:
    """A method's chosen ends, with their outcomes on the test stems and the curve on the validation stems."""

    ends: Ends
    high: Outcome
    low: Outcome
    unsteered: Outcome
    movers: Sequence[Mover]
    tried: int
    """Number of candidates."""
    curve: Sequence[Mapping[str, float]]

    @property
    def differences(self) -> Any:
        """[stems]: how much more of the positive pole the high end shows than the low end."""
        return self.high.poles[0] - self.low.poles[0]

    def plain(self, concepts: Sequence[str]) -> dict[str, Any]:
        """As plain JSON; `concepts` are the names of the readers, the concept's own first."""
        moved = abs(self.high.poles[1:].mean(1) - self.low.poles[1:].mean(1))
        most = int(moved.argmax()) if len(moved) else None
        return {
            "range": float(self.differences.mean()),
            "high": self._end(self.ends.high, self.high),
            "low": self._end(self.ends.low, self.low),
            "tried": self.tried,
            **({} if most is None else {"moved": round(float(moved.mean()), _DIGITS)}),
            **(
                {}
                if most is None
                else {"most_moved": [concepts[1 + most], round(float(moved[most]), _DIGITS)]}
            ),
            "curve": list(self.curve),
        }

    def _end(self, setting: Setting | None, outcome: Outcome) -> dict[str, Any]:
        loss = lost(outcome, self.unsteered)
        how = {} if setting is None else self.movers[setting[0]].plain() | {"strength": setting[1]}
        return {
            "share": round(outcome.share, _DIGITS),
            "degenerate": round(outcome.degenerate_share, _DIGITS),
            **({} if loss is None else {"loss": round(loss, _DIGITS)}),
            **how,
        }


@dataclass(frozen=True, eq=False)
class Search:
    """Everything about one concept at one site that methods share."""

    concept: TwoPoles
    unit: float
    """A strength of 1: the mean norm of the residual stream."""
    screening: Part
    validation: Part
    test: Part
    strengths: tuple[float, ...]
    limits: Limits

    def run(self, movers: Sequence[Mover], wanted: Mapping[Kind, Sequence[int]]) -> dict[Kind, Found]:
        """The ends of each kind of method, chosen among the movers with the given numbers.

        Every mover is tried on the screening stems, at all strengths up to one that ruins the text, then the
        rays of the best pairs of ends on the validation stems, and the chosen settings on the test stems.
        `one` and `pair` push movers only to sides on which these fire.
        """
        every = {ray for kind, numbers in wanted.items() for ray in _rays(kind, movers, numbers)}
        first = self._along(self.screening, movers, every)
        rays = {
            ray
            for kind in wanted
            for ends in self._ranked(kind, movers, wanted, first, self.screening)[:FINALISTS]
            for ray in self._completed(kind, ends)
        }
        second = self._along(self.validation, movers, rays)
        chosen = {kind: self._ranked(kind, movers, wanted, second, self.validation)[0] for kind in wanted}
        settings = sorted({setting for ends in chosen.values() for setting in ends.settings})
        last = self.test.measured(movers, settings, self.unit)
        return {
            kind: self._found(ends, movers, len(wanted[kind]), second, last) for kind, ends in chosen.items()
        }

    def _along(self, part: Part, movers: Sequence[Mover], rays: Iterable[Ray]) -> dict[Setting, Outcome]:
        return part.along(movers, rays, self.strengths, self.unit, self.limits)

    def _ranked(
        self,
        kind: Kind,
        movers: Sequence[Mover],
        wanted: Mapping[Kind, Sequence[int]],
        measured: Mapping[Setting, Outcome],
        part: Part,
    ) -> list[Ends]:
        own = set(_rays(kind, movers, wanted[kind]))
        mine = {setting: outcome for setting, outcome in measured.items() if ray_of(setting) in own}
        return ranked(kind, mine, part.unsteered, self.limits, sorted(own))

    def _completed(self, kind: Kind, ends: Ends) -> list[Ray]:
        """The rays of the ends; with the opposite ones for a mover that is used both ways."""
        found = ends.rays
        return [*found, *((mover, -way) for mover, way in found)] if kind == "both" else found

    def _found(
        self,
        ends: Ends,
        movers: Sequence[Mover],
        tried: int,
        validated: Mapping[Setting, Outcome],
        tested: Mapping[Setting, Outcome],
    ) -> Found:
        unsteered = self.test.unsteered
        high, low = (unsteered if end is None else tested[end] for end in (ends.high, ends.low))
        return Found(ends, high, low, unsteered, movers, tried, self._curve(ends, validated))

    def _curve(self, ends: Ends, validated: Mapping[Setting, Outcome]) -> list[dict[str, float]]:
        """Share, fluency and degenerate share against strength, for the chosen movers on validation stems.

        The curve goes through the rays of the ends; those of the low end have negative strengths.
        """
        unsteered = self.validation.unsteered
        rows = [(0.0, unsteered)]
        for end, way in ((ends.high, 1), (ends.low, -1)):
            if end is not None:
                ray = ray_of(end)
                rows += [(way * abs(s[1]), o) for s, o in validated.items() if ray_of(s) == ray]
        return [
            {
                "strength": strength,
                "share": round(outcome.share, _DIGITS),
                "degenerate": round(outcome.degenerate_share, _DIGITS),
                **({} if (loss := lost(outcome, unsteered)) is None else {"loss": round(loss, _DIGITS)}),
            }
            for strength, outcome in sorted(rows, key=lambda row: row[0])
        ]


def _rays(kind: Kind, movers: Sequence[Mover], numbers: Sequence[int]) -> list[Ray]:
    return [
        (number, way)
        for number in numbers
        for way in (1, -1)
        if kind == "both" or movers[number].one_way(way)
    ]
