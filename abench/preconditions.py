"""Preconditions of scores: what must be true of a model, its data or an SAE for scores to mean anything."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Precondition:
    """A measured quantity that must be large enough for a task's scores to mean anything.

    A task declares its preconditions in `valid_if`, measures each and passes it to `Context.measured`. Cells
    store name, bound and measured value. Where a value is below its bound, reports show — with the reason in
    place of the scores; the scores themselves are in data.csv.
    """

    name: str
    title: str
    """What is measured, as a noun phrase in the singular: `the mean F1 of the letters' sparse probes`."""
    at_least: float
    """The lowest value at which the scores mean something."""
    description: str = ""
    """Why the scores mean nothing below it, as a sentence."""
    metrics: tuple[str, ...] = ()
    """The metrics that depend on it; empty for all metrics of the task."""
