"""The toy figure: true and learnt directions in the plane of a synthetic world's first two features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from abench.figures import TaskFigure
from abench.report.frame import Record
from abench.report.style import NO_STYLES, Styles, lighten, variant_order, variant_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("model", "site", "variant", "k", "width", "seed", "kind", "name", "sign", "x", "y", "share")
LEAST_LABELLED = 0.3
"""Minimum length in the plane of true directions with a label; shorter ones are nearly orthogonal to it."""


def plane_arrows(records: Sequence[Record]) -> pd.DataFrame:
    """One row per arrow: true poles (kind `true`) and the sides on which latents fire (kind `learnt`)."""
    import pandas as pd

    rows = [row for record in records for row in _rows(record)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    order = variant_order(frame["variant"])
    place = frame["variant"].map(order.index)
    return (
        frame.assign(place=place).sort_values(["place", *COLUMNS[3:6]], kind="stable").drop(columns="place")
    )


def draw_plane(arrows: pd.DataFrame, heading: str, styles: Styles = NO_STYLES) -> Figure:
    """The figure with one panel per SAE: columns by variant, k and width, rows by seed."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    saes = arrows[["variant", "k", "width"]].drop_duplicates().to_records(index=False).tolist()
    seeds = sorted(arrows["seed"].unique())
    size = (0.6 + 2.7 * len(saes), 0.9 + 2.3 * len(seeds))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    figure.suptitle(f"{heading}: learnt directions (coloured) and true directions (grey)", fontsize=11)
    panels = figure.subplots(len(seeds), len(saes), squeeze=False)
    for column, (variant, k, width) in enumerate(saes):
        style = variant_style(variant, styles)
        panels[0][column].set_title(f"{style.title}, {width} latents, k = {k}", fontsize=9)
        for row, seed in enumerate(seeds):
            mine = arrows[
                (arrows[["variant", "k", "width", "seed"]] == [variant, k, width, seed]).all(axis=1)
            ]
            _draw_panel(panels[row][column], mine, style.colour, style.marker)
    for row, seed in enumerate(seeds):
        panels[row][0].set_ylabel(f"seed {seed}")
    return figure


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    plane = (record.get("details") or {}).get("plane")
    if record["status"] != "done" or plane is None:
        return
    labels = {name: record["labels"][name] for name in COLUMNS[:6]}
    for row in plane["true"]:
        yield {**labels, "kind": "true", **row}
    for row in plane["found"]:
        rest = {name: row[name] for name in ("sign", "x", "y", "share")}
        yield {**labels, "kind": "learnt", "name": str(row["latent"]), **rest}


def _draw_panel(axes: Axes, arrows: pd.DataFrame, colour: str, marker: str) -> None:
    axes.set(xlim=(-1.6, 1.6), ylim=(-1.25, 1.5), xticks=[], yticks=[], aspect="equal")
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    for row in arrows[arrows["kind"] == "true"].itertuples():
        axes.plot([0, row.x], [0, row.y], color="#999999", linestyle=(0, (3, 2)), linewidth=1, zorder=1)
        if row.x**2 + row.y**2 >= LEAST_LABELLED**2:
            axes.annotate(row.name, (1.35 * row.x, 1.35 * row.y), ha="center", va="center", fontsize=7)
    learnt = arrows[arrows["kind"] == "learnt"]
    for row in learnt.itertuples():
        # Sides on which a latent rarely fires are pale; the negative side has a hollow marker.
        shade = lighten(colour, 0.5 * (1 - row.share / learnt["share"].max()))
        fill = shade if row.sign > 0 else "white"
        axes.plot([0, row.x], [0, row.y], color=shade, linewidth=1.6, zorder=2 + row.share)
        axes.plot([row.x], [row.y], marker, color=shade, markerfacecolor=fill, zorder=3 + row.share)


PLANE = TaskFigure(
    "toy",
    "Directions",
    plane_arrows,
    draw_plane,
    "The plane of the first two true features, one panel per SAE. Grey: true directions. Coloured: the sides "
    "on which latents fire, paler if they fire rarely; hollow markers: the negative side of a signed latent. "
    "Short lines point out of the plane.",
)
"""The figure of `recovery`."""
