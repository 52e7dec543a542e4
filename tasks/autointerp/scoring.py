"""From a judge's answers to the scores of an SAE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .judges import Answer, balanced, detection
from .units import Part, Unit


@dataclass(frozen=True)
class Scored:
    """A unit with its explanation and its scores."""

    latent: int
    part: Part
    explanation: str
    detection: float
    balanced: float

    @classmethod
    def of(cls, unit: Unit, answer: Answer) -> Scored | None:
        """None if the unit has no examples or the answer could not be read."""
        if unit.examples is None or answer.explanation is None or answer.predicted is None:
            return None
        scores = (each(answer.predicted, unit.examples) for each in (detection, balanced))
        return cls(unit.latent, unit.part, answer.explanation, *scores)


@dataclass(frozen=True)
class ByPart:
    """The scored units of an SAE, by latent."""

    whole: Mapping[int, Scored]
    main: Mapping[int, Scored]
    other: Mapping[int, Scored]

    @classmethod
    def of(cls, found: Sequence[Scored]) -> ByPart:
        parts: tuple[Part, ...] = ("whole", "main", "other")
        return cls(*({each.latent: each for each in found if each.part == part} for part in parts))

    def scores(self, explained_from: float) -> dict[str, float]:
        """The metrics that are means over latents or poles; there must be a scored latent.

        The mean of a pole that no latent has is 0, and the task's preconditions state that it means nothing.
        """

        def explained(part: Mapping[int, Scored], latent: int) -> bool:
            return latent in part and part[latent].detection >= explained_from

        return {
            "detection": _mean(self.whole),
            "balanced": fmean(each.balanced for each in self.whole.values()),
            "main_pole": _mean(self.main),
            "other_pole": _mean(self.other),
            "explained": fmean(explained(self.whole, latent) for latent in self.whole),
            "both_explained": fmean(
                explained(self.main, latent) and explained(self.other, latent) for latent in self.whole
            ),
            "latents": len(self.whole),
            "poles": len(self.main) + len(self.other),
        }

    def by_latent(self) -> dict[str, dict[str, float]]:
        """The scores of each latent, for the details of a cell."""
        return {
            str(latent): {
                "whole": round(each.detection, 7),
                "balanced": round(each.balanced, 7),
                **{
                    name: round(part[latent].detection, 7)
                    for name, part in (("main", self.main), ("other", self.other))
                    if latent in part
                },
            }
            for latent, each in self.whole.items()
        }

    def examples(self, number: int) -> dict[str, list[dict[str, Any]]]:
        """The latents that are detected best and worst as a whole, with the explanations of all parts."""
        order = sorted(self.whole.values(), key=lambda each: -each.balanced)
        best, worst = order[:number], order[number:][::-1][:number]
        return {
            "best": [dict(self._explained(each.latent)) for each in best],
            "worst": [dict(self._explained(each.latent)) for each in worst],
        }

    def _explained(self, latent: int) -> Iterator[tuple[str, Any]]:
        yield "latent", latent
        for name, part in (("whole", self.whole), ("main", self.main), ("other", self.other)):
            if latent in part:
                yield name, {"explanation": part[latent].explanation, "detection": part[latent].detection}


def _mean(part: Mapping[int, Scored]) -> float:
    return fmean(each.detection for each in part.values()) if part else 0.0
