"""The paper's reconstruction figure: training MSE, normalised MSE and loss recovered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.report.axes import label_axes, set_scales
from abench.report.curves import PANELS, Curve, reconstruction_points
from abench.report.drawings import Drawings
from abench.report.frame import Record
from abench.report.style import LINE_STYLES, NO_STYLES, Styles, lighten, variant_order, variant_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Look = dict[str, Any]
"""The matplotlib arguments of one series: colour, marker, line style, fill."""


def write_figures(
    records: Sequence[Record],
    curves: Mapping[str, Curve],
    drawings: Drawings,
    styles: Styles = NO_STYLES,
    summary: pd.DataFrame | None = None,
    panels: Sequence[str] | None = None,
) -> list[Path]:
    """Write one figure per model and site as PNG, PDF and CSV of its points; returns the PNG paths.

    `panels` are the panels to show, in their order; by default, all that have points (`PANELS`). A model
    and site without points gets no figure. Equal input gives equal bytes.
    """
    points = reconstruction_points(records, curves, summary)
    shown = PANELS if panels is None else tuple(panels)
    points = points[points["panel"].isin(shown)]
    groups = list(points.groupby(["model", "site"], sort=True))
    names = figure_names([place for place, _ in groups])
    return [
        drawings.add(name, draw, group, ", ".join(place), styles, shown)
        for name, (place, group) in zip(names, groups, strict=True)
    ]


def figure_names(places: Sequence[tuple[str, str]], stem: str = "reconstruction") -> list[str]:
    """A unique file name per model and site: just the stem for a single one, else with both names."""
    if len(places) == 1:
        return [stem]
    names: list[str] = []
    for place in places:
        slug = f"{stem}-" + re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(place)).strip("-")
        names.append(slug if slug not in names else f"{slug}-{len(names) + 1}")
    return names


def draw(
    points: pd.DataFrame, heading: str, styles: Styles = NO_STYLES, order: Sequence[str] = PANELS
) -> Figure:
    """The figure of one model and site: the panels of `order` that have points, side by side."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = [panel for panel in order if (points["panel"] == panel).any()]
    size = (max(6.0, 11.5 * len(panels) / len(PANELS)), 4.0)  # the legend needs some width
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    figure.suptitle(heading, fontsize=11)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        part = points[points["panel"] == panel]
        _draw_panel(axes, part, _looks(points, styles), curve=panel == PANELS[0])
        set_scales(axes, part, panel)
        label_axes(axes, panel)
    figure.legend(handles=_legend(points, styles), loc="outside lower center", ncols=8)
    return figure


def _draw_panel(axes: Axes, points: pd.DataFrame, looks: dict[tuple[str, int], Look], *, curve: bool) -> None:
    ks = sorted(points["k"].dropna().unique(), reverse=True)
    for (variant, width), group in points.groupby(["variant", "width"], sort=False):
        look = looks[variant, width]
        if not curve:
            _draw_metric(axes, group.sort_values("x"), look)
            continue
        for k, line in group.groupby("k"):
            _draw_curve(axes, line, {**look, **_shade(look["color"], ks.index(k), len(ks))})
    if curve and len(ks) > 1:
        axes.legend(handles=_k_handles(ks), loc="upper right", fontsize=8)


def _draw_curve(axes: Axes, line: pd.DataFrame, look: Look) -> None:
    # As arrays, because operations on small data frames have a large overhead.
    x, y, sd = (line[name].to_numpy() for name in ("x", "y", "y_sd"))
    axes.plot(x, y, markevery=max(1, len(x) // 6), **look)
    band = sd == sd  # false for NaN
    low, high = (y - sd)[band], (y + sd)[band]
    axes.fill_between(x[band], low, high, color=look["color"], alpha=0.15, linewidth=0)


def _draw_metric(axes: Axes, line: pd.DataFrame, look: Look) -> None:
    axes.errorbar(line["x"], line["y"], xerr=line["x_sd"], yerr=line["y_sd"], capsize=2, **look)


def _looks(points: pd.DataFrame, styles: Styles) -> dict[tuple[str, int], Look]:
    """Colour and marker by variant; markers of a variant's smallest width are filled, the others hollow."""
    looks: dict[tuple[str, int], Look] = {}
    widths = points[["variant", "width"]].drop_duplicates().sort_values(["variant", "width"])
    for variant, group in widths.groupby("variant"):
        style = variant_style(variant, styles)
        for rank, width in enumerate(group["width"]):
            fill = style.colour if rank == 0 else "white"
            looks[variant, width] = {"color": style.colour, "marker": style.marker, "markerfacecolor": fill}
    return looks


def _shade(colour: str, rank: int, of: int) -> Look:
    """The look of a k by rank: the largest in full colour and solid, smaller ones lighter and dashed."""
    shaded = lighten(colour, 0.5 * rank / max(1, of - 1))
    return {"color": shaded, "linestyle": LINE_STYLES[rank % len(LINE_STYLES)]}


def _legend(points: pd.DataFrame, styles: Styles) -> list[Line2D]:
    from matplotlib.lines import Line2D

    looks = _looks(points, styles)
    several = len({width for _, width in looks}) > 1
    order = variant_order(variant for variant, _ in looks)
    handles = []
    for variant, width in sorted(looks, key=lambda pair: (order.index(pair[0]), pair[1])):
        label = variant_style(variant, styles).title + (f", {width:,} latents" if several else "")
        handles.append(Line2D([], [], label=label, **looks[variant, width]))
    return handles


def _k_handles(ks: Sequence[int]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    shades = [_shade("#333333", rank, len(ks)) for rank in range(len(ks))]
    return [Line2D([], [], label=f"k = {k}", **shade) for k, shade in zip(ks, shades, strict=True)]
