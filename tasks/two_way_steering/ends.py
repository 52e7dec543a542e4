"""The two ends of a method: the settings that show most of either pole while the text stays fluent.

A ray is a mover with the sign of its lengths. Each end is chosen by itself, so that the strengths at the two
ends may differ; an end at which nothing helps is the unsteered model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .exam import Outcome

Kind = Literal["both", "one", "pair"]
"""`both`: one mover in both directions. `one`: one mover in one direction, the other end is the unsteered
model. `pair`: two different movers, one for each end, each in one direction."""

Setting = tuple[int, float]
"""The number of a mover and a signed strength."""
Ray = tuple[int, int]
"""The number of a mover and the sign of its strengths."""

_FAR, _LEAST_FAR = 2.0, 0.1
"""How many times the allowed loss, but at least how many nats, make stronger pushes hopeless. One or two
times the limit can be chance on few stems."""


@dataclass(frozen=True)
class Limits:
    """What a setting may cost, compared with the unsteered model."""

    max_loss: float
    """Nats per token."""
    max_degenerate: float
    """Share of degenerate continuations."""

    def allow(self, outcome: Outcome, unsteered: Outcome) -> bool:
        """Whether the continuations of a setting are fluent enough to count."""
        loss = lost(outcome, unsteered)
        more = outcome.degenerate_share - unsteered.degenerate_share
        # Shares are fractions of few stems, whose difference is not exact.
        return loss is not None and loss <= self.max_loss and more <= self.max_degenerate + 1e-9

    def far_exceeded(self, outcome: Outcome, unsteered: Outcome) -> bool:
        """Whether the loss of fluency is so large that a stronger push is not worth trying."""
        loss = lost(outcome, unsteered)
        return loss is None or loss > _FAR * max(self.max_loss, _LEAST_FAR)


@dataclass(frozen=True)
class Ends:
    """The settings of the two ends of a method, and the range between them; None is the unsteered model."""

    high: Setting | None
    low: Setting | None
    range: float
    """Share of the positive pole at the high end minus that at the low end."""

    @property
    def settings(self) -> list[Setting]:
        return [each for each in (self.high, self.low) if each is not None]

    @property
    def rays(self) -> list[Ray]:
        return [ray_of(setting) for setting in self.settings]


def lost(outcome: Outcome, unsteered: Outcome) -> float | None:
    """Nats per token more than those of the unsteered continuations; None if nothing was said."""
    now, before = outcome.nats_per_token, unsteered.nats_per_token
    return None if now is None or before is None else now - before


def ray_of(setting: Setting) -> Ray:
    return setting[0], 1 if setting[1] > 0 else -1


def ranked(
    kind: Kind,
    measured: Mapping[Setting, Outcome],
    unsteered: Outcome,
    limits: Limits,
    one_way: Sequence[Ray],
) -> list[Ends]:
    """All pairs of ends that a method can have with the measured settings, the widest range first.

    `one_way` are the rays of single units, from which `one` and `pair` take their ends. Among equal ranges,
    the ends that cost least fluency come first, then the earlier mover.
    """
    best = _best_of_rays(measured, unsteered, limits)
    shares = {None: unsteered.share} | {setting: each.share for setting, each in measured.items()}

    def cost(ends: Ends) -> float:
        return sum(lost(measured[setting], unsteered) or 0.0 for setting in ends.settings)

    rays = [ray for ray in one_way if ray in best]
    pairs = {"both": _both, "one": _one, "pair": _pairs}[kind](best, rays)
    found = {(high, low): Ends(high, low, shares[high] - shares[low]) for high, low in pairs}
    return sorted(found.values(), key=lambda ends: (-ends.range, cost(ends), _places(ends)))


_Best = Mapping[Ray, tuple[Setting | None, Setting | None]]
"""Ray -> its settings with the highest and with the lowest share; None if unsteered is best."""


def _best_of_rays(measured: Mapping[Setting, Outcome], unsteered: Outcome, limits: Limits) -> _Best:
    rays: dict[Ray, list[Setting]] = {}
    for setting in measured:
        rays.setdefault(ray_of(setting), []).append(setting)
    found = {}
    for ray, settings in rays.items():
        allowed = [each for each in settings if limits.allow(measured[each], unsteered)]
        ends = [
            min(allowed, key=lambda each: (-way * measured[each].share, abs(each[1])), default=None)
            for way in (1, -1)
        ]
        found[ray] = tuple(
            end if end is not None and way * (measured[end].share - unsteered.share) > 0 else None
            for end, way in zip(ends, (1, -1), strict=True)
        )
    return {ray: (high, low) for ray, (high, low) in found.items()}


_Pair = tuple[Setting | None, Setting | None]


def _both(best: _Best, _one_way: Sequence[Ray]) -> Iterator[_Pair]:
    """Each mover: the high end in one direction, the low end in the other."""
    yield None, None
    nothing = (None, None)
    for mover in dict.fromkeys(mover for mover, _ in best):
        for way in (1, -1):
            yield best.get((mover, way), nothing)[0], best.get((mover, -way), nothing)[1]


def _one(best: _Best, one_way: Sequence[Ray]) -> Iterator[_Pair]:
    """Each ray: one end, the other is the unsteered model."""
    yield None, None
    for ray in one_way:
        high, low = best[ray]
        yield high, None
        yield None, low


def _pairs(best: _Best, one_way: Sequence[Ray]) -> Iterator[_Pair]:
    """A ray for the high end, and a ray of another mover for the low end."""
    yield from _one(best, one_way)
    for up in one_way:
        for down in one_way:
            if up[0] != down[0]:
                yield best[up][0], best[down][1]


def _places(ends: Ends) -> list[tuple[int, float]]:
    return [(mover, -strength) for mover, strength in ends.settings]
