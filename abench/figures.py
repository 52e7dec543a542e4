"""Figures that a task adds to reports: where their points come from, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]
"""The cells of a task as reports read them: `labels`, `status`, `scores`, `details` and others."""


@dataclass(frozen=True)
class TaskFigure:
    """A figure of a task's own, which every report with the task shows for each model and site.

    It is written as PNG, PDF, and CSV of its points. It depends on the cells alone, never on SAEs or data.
    """

    name: str
    """The beginning of its files' names: lower-case letters, digits and underscores."""
    title: str
    """Its heading on the page."""
    points: Callable[[Records], pd.DataFrame]
    """A function of all cells of the task in a report, with and without a result. Returns the points of all
    figures, with the columns `model` and `site`; `abench.report.points_of` suits most tasks."""
    draw: Callable[..., Figure]
    """A function `draw(points, heading, styles)` that returns the matplotlib figure of one model and site. It
    must depend on nothing but its arguments, because a figure is not drawn again if these and the code are
    the same. `styles` are for `abench.report.variant_style`."""
    caption: str = ""
    """What the figure shows, as sentences."""
    chart: Callable[[Sequence[Mapping[str, str]], Any], dict[str, Any]] | None = None
    """What the page draws in place of the image, with values on hover: `abench.report.line_chart(...)`; None
    for the image alone."""
