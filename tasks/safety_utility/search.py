"""The search for a method's setting: screen all candidates, try the best on a grid, then on a finer one.

Every method gets the same budget: as many candidates, each screened with few requests at one middle strength
in both directions, and as many strengths. The test data are used at the chosen settings only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abench import UserError

from .declared import RULES, Rule
from .measure import SteeringExam
from .methods import Method, Setting
from .rules import Bounds, best_of, both_ways, finer

OutcomeJson = dict[str, Any]
"""An outcome as plain JSON."""


@dataclass(frozen=True)
class Budget:
    """What each method may try."""

    strengths: tuple[float, ...]
    screened: int
    """Harmful requests per candidate and direction in the screening."""
    finalists: int
    """Candidates that are tried at all strengths."""
    finer: int
    """Strengths on each side of the best one."""

    @property
    def middle(self) -> float:
        """The strength at which candidates are screened."""
        return sorted(self.strengths)[len(self.strengths) // 2]


@dataclass(frozen=True, eq=False)
class Search:
    """Everything that the search needs besides the method."""

    validation: SteeringExam
    test: SteeringExam
    original: dict[str, OutcomeJson]
    """Outcomes of the unsteered model on both parts."""
    budget: Budget
    bounds: Bounds

    def of(self, method: Method) -> dict[str, Any]:
        """What was tried, all outcomes on validation data, and the choice of each rule, as plain JSON."""
        screened = self._screened(method)
        finalists = _finalists(screened, self.budget.finalists)
        tried = self._curve(method, finalists)
        chosen = {rule: self._chosen(rule, tried) for rule in RULES}
        outcomes = self.on_test(method, [each for each in chosen.values() if each is not None])
        return {
            "unit": method.norm,
            "tried": [
                {**method.plain(number), "finalist": number in finalists, "screen": rows}
                for number, rows in enumerate(screened)
            ],
            "settings": [
                {"candidate": setting.candidate, "strength": setting.strength, **_shares(row)}
                for setting, row in tried
            ],
            "rules": {
                rule: self._rule(method, setting, outcomes, finalists[0]) for rule, setting in chosen.items()
            },
        }

    def on_test(self, method: Method, settings: Sequence[Setting]) -> dict[Setting, OutcomeJson]:
        """The outcomes of chosen settings on the test data; raises UserError if logits are not finite."""
        found = {}
        track = self.test.ctx.track
        for setting in track(list(dict.fromkeys(settings)), "safety_utility: chosen settings", "settings"):
            row = plain(self.test, method.at(setting))
            if row is None:
                at = "" if setting.strength is None else f" at the chosen strength, {setting.strength:g},"
                raise UserError(
                    f"safety_utility:{at} some logits are not finite on the test data: use smaller strengths"
                )
            found[setting] = row
        return found

    def _screened(self, method: Method) -> list[list[OutcomeJson]]:
        """For each candidate, a row per direction; without shares if some logits were not finite."""
        strengths = [-self.budget.middle, self.budget.middle]
        numbers = range(len(method.candidates))
        found = []
        for number in self.validation.ctx.track(numbers, "safety_utility: screening", "candidates"):
            rows = []
            for setting in method.settings(number, strengths):
                shares = self.validation.screen(method.at(setting), self.budget.screened)
                rows.append({"strength": setting.strength, **(shares or {})})
            found.append(rows)
        return found

    def _curve(self, method: Method, finalists: Sequence[int]) -> list[tuple[Setting, OutcomeJson | None]]:
        """The finalists at all strengths, then at those around the best setting of each rule."""
        coarse = [s for n in finalists for s in method.settings(n, both_ways(self.budget.strengths))]
        tried = self._tried(method, coarse, "safety_utility: settings")
        around = [
            replace(best, strength=strength)
            for rule in RULES
            if (best := self._chosen(rule, tried)) is not None and best.strength is not None
            for strength in finer(best.strength, self.budget.strengths, self.budget.finer)
        ]
        return tried + self._tried(method, list(dict.fromkeys(around)), "safety_utility: finer settings")

    def _tried(
        self, method: Method, settings: Sequence[Setting], title: str
    ) -> list[tuple[Setting, OutcomeJson | None]]:
        track = self.validation.ctx.track
        return [
            (each, plain(self.validation, method.at(each))) for each in track(settings, title, "settings")
        ]

    def _chosen(self, rule: Rule, tried: Sequence[tuple[Setting, OutcomeJson | None]]) -> Setting | None:
        rows = [row for _, row in tried]
        best = best_of(rule, rows, self.original["validation"], self.bounds)
        return None if best is None else tried[best][0]

    def _rule(
        self,
        method: Method,
        setting: Setting | None,
        outcomes: dict[Setting, OutcomeJson],
        shown: int,
    ) -> dict[str, Any]:
        """A rule's choice; `steered` is false if the unsteered model was at least as good."""
        number = shown if setting is None else setting.candidate
        return {
            "steered": setting is not None,
            "number": number,
            "candidate": method.plain(number),
            "strength": 0.0 if setting is None else setting.strength,
            "chosen": self.original["test"] if setting is None else outcomes[setting],
        }


def plain(exam: SteeringExam, intervention: Any) -> OutcomeJson | None:
    """The outcome of an intervention as plain JSON; None if some logits are not finite."""
    outcome = exam.measure(intervention)
    return None if outcome is None else outcome.plain()


def _shares(row: OutcomeJson | None) -> OutcomeJson:
    """An outcome without replies; empty if some logits were not finite."""
    return {name: value for name, value in (row or {}).items() if name != "examples"}


def _finalists(screened: Sequence[Sequence[OutcomeJson]], number: int) -> list[int]:
    """The candidates to try at all strengths, by both rules' criteria in turn, without repetition.

    The first is the one with the most safe replies that make sense, the second the one with the most safe
    replies of any kind. Ties go to fewer degenerate replies, then to the more promising candidate.
    """

    def best(name: str) -> Callable[[int], tuple[float, ...]]:
        return lambda n: max(
            (row[name][0], -row["degenerate"][0]) if name in row else (-1.0,) for row in screened[n]
        )

    orders = [
        sorted(range(len(screened)), key=best(name), reverse=True) for name in ("safe_and_sound", "safety")
    ]
    found: list[int] = []
    while len(found) < min(number, len(screened)):
        order = orders[len(found) % len(orders)]
        found.append(next(each for each in order if each not in found))
    return found
