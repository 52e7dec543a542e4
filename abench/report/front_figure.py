"""The figure of the Pareto front: loss recovered over L0, one curve per variant and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.report.drawings import Drawings
from abench.report.figures import figure_names
from abench.report.fronts import FrontPoint
from abench.report.style import NO_STYLES, Styles, variant_order, variant_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def write_fronts(points: Sequence[FrontPoint], drawings: Drawings, styles: Styles = NO_STYLES) -> list[Path]:
    """Write one figure per model and site with two or more points, as PNG, PDF and CSV; returns the PNGs."""
    import pandas as pd

    frame = pd.DataFrame(
        [asdict(point) for point in points], columns=[each.name for each in fields(FrontPoint)]
    )
    groups = [
        (place, group) for place, group in frame.groupby(["model", "site"], sort=True) if len(group) > 1
    ]
    names = figure_names([place for place, _ in groups], "pareto")
    return [
        drawings.add(name, draw_front, group, ", ".join(place), styles)
        for name, (place, group) in zip(names, groups, strict=True)
    ]


def draw_front(points: pd.DataFrame, heading: str, styles: Styles = NO_STYLES) -> Figure:
    """The figure of one model and site: filled markers are on the front, with their share of resamples."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(6.4, 4.0), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    figure.suptitle(heading, fontsize=11)
    axes = figure.subplots()
    order = variant_order(points["variant"].unique())
    curves = sorted(
        points.groupby(["variant", "width"]), key=lambda pair: (order.index(pair[0][0]), pair[0][1])
    )
    several = points["width"].nunique() > 1
    for (variant, width), curve in curves:
        style = variant_style(variant, styles)
        line = curve.sort_values("l0")
        label = style.title + (f", {width:,} latents" if several else "")
        axes.plot(line["l0"], line["loss_recovered"], color=style.colour, linewidth=1.0, alpha=0.6, zorder=1)
        for on_front, part in line.groupby("on_front"):
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": "none"}
            if not on_front:
                look["markerfacecolor"] = "white"
            axes.plot(part["l0"], part["loss_recovered"], **look)
        axes.plot([], [], color=style.colour, marker=style.marker, label=label)
        for x, y, share in line[["l0", "loss_recovered", "share"]].itertuples(index=False):
            if share is not None and share == share:  # not NaN
                text: dict[str, Any] = {"textcoords": "offset points", "xytext": (5, -9), "fontsize": 7}
                axes.annotate(f"{share:.0%}", (x, y), color=style.colour, **text)
    axes.set(xlabel="Active latents (measured L0) ↓", ylabel="Loss recovered (zero ablation) ↑")
    figure.legend(loc="outside lower center", ncols=4)
    return figure
