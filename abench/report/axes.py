"""Scales, limits, ticks and labels of the reconstruction figure's panels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from abench.report.curves import PANELS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

LABELS = {
    PANELS[0]: ("Training step", "Training MSE ↓"),
    PANELS[1]: ("Active latents (measured L0)", "Normalised MSE ↓"),
    PANELS[2]: ("Active latents (measured L0)", "Loss recovered (zero ablation) ↑"),
}

LOG_FROM = {PANELS[0]: 1.5, PANELS[1]: 10.0, PANELS[2]: math.inf}
"""The ratio of largest to smallest value from which on a panel's y axis is logarithmic."""
LOG_L0_FROM = 3.0
MOST_K_TICKS = 6
SMALLEST_SPAN = 1e-3
"""The smallest range of a linear axis, as a share of its values."""


def set_scales(axes: Axes, points: pd.DataFrame, panel: str) -> None:
    """Use logarithmic axes, with readable ticks, where the range of values is wide enough."""
    if ratio(points["y"]) >= LOG_FROM[panel]:
        _log_limits(axes, points)
        _log_ticks(axes.yaxis, ratio(points["y"]))
    else:
        _widen(axes)
    if panel != PANELS[0]:
        _scale_l0(axes, points)


def label_axes(axes: Axes, panel: str) -> None:
    """Set the axis labels of a panel."""
    x, y = LABELS[panel]
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def ratio(values: pd.Series[float]) -> float:
    """Largest over smallest value; 1 if values are not all positive."""
    return float(values.max() / values.min()) if len(values) and values.min() > 0 else 1.0


def _widen(axes: Axes) -> None:
    """Show equal values as equal: differences by rounding do not fill the axis."""
    low, high = axes.get_ylim()
    least = SMALLEST_SPAN * max(abs(low), abs(high))
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least / 2, middle + least / 2)


def _scale_l0(axes: Axes, points: pd.DataFrame) -> None:
    if ratio(points["x"]) >= LOG_L0_FROM:
        axes.set_xscale("log", base=2)
        _plain_ticks(axes.xaxis)
    ks = sorted(points["k"].dropna().unique())
    low, high = axes.get_xlim()
    # Ticks at the values of k, unless SAEs are far from them or there are too many to read.
    if 0 < len(ks) <= MOST_K_TICKS and low <= ks[0] and ks[-1] <= high:
        axes.set_xticks([float(k) for k in ks])


def _log_limits(axes: Axes, points: pd.DataFrame) -> None:
    """Set limits from the means, because an error bar that reaches zero would stretch a logarithmic axis."""
    low, high = points["y"].min(), (points["y"] + points["y_sd"].fillna(0)).max()
    margin = (high / low) ** 0.05
    axes.set_yscale("log")
    axes.set_ylim(low / margin, high * margin)


def _log_ticks(axis: Axis, spread: float) -> None:
    from matplotlib.ticker import LogLocator

    digits = (1, 1.5, 2, 3, 4, 5, 7) if spread < 10 else (1, 2, 5) if spread < 1000 else (1,)
    axis.set_major_locator(LogLocator(subs=digits))
    _plain_ticks(axis)


def _plain_ticks(axis: Axis) -> None:
    """Format ticks as plain numbers: 0.02, not 2 × 10⁻²."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
