"""The trade-off of steering: utility against safety, one panel per method, one point per strength."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from abench.figures import TaskFigure
from abench.report.frame import Record
from abench.report.interactive.tradeoff import tradeoff_chart
from abench.report.point_labels import offsets
from abench.report.saes import present, with_k
from abench.report.safety import DEGENERATE
from abench.report.steering_details import Values, curve_of, rules_of, unsteered_beside_curve
from abench.report.style import NO_STYLES, Styles, lighten, variant_order, variant_style
from abench.report.validity import is_valid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = ("model", "site", "method", "k", "width", "seed")
_SHARES = ("utility", "safety")
COLUMNS = (
    *LABELS,
    "candidate",
    "strength",
    "chosen",
    "chosen_by",
    *(f"{share}{end}" for share in _SHARES for end in ("", "_low", "_high")),
    "degenerate",
)
DIM_LOOK: dict[str, Any] = {"color": "#555555", "marker": "X"}
ACROSS = 3
"""Most panels side by side."""
PANEL = (3.5, 3.0)
"""Width and height of a panel in inches."""
_INNER = (205.0, 165.0)
"""About the width and height of a panel's axes in typographic points."""
_SMALL = 6.0
"""Size of the strengths' font."""
_MARGIN = 8.0
"""Room for markers at both ends of an axis, in points of percent."""


def tradeoff_points(records: Sequence[Record]) -> pd.DataFrame:
    """One row per method, candidate and strength: those of the candidates that the rules chose.

    Settings without finite logits have no row, nor have cells in which utility or safety means nothing. The
    strength of a direction that is removed is missing. `chosen_by` names the rules that chose a setting.
    `degenerate` is the percentage of replies to harmful requests that are empty, loops or nonsense.
    """
    import pandas as pd

    rows = [row for record in records if is_valid(record, _SHARES) for row in _rows(record)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    # Every SAE's cell contains the unsteered model and DiM; they are drawn once.
    return frame.drop_duplicates().sort_values(
        [*LABELS, "candidate", "strength"], kind="stable", ignore_index=True
    )


def draw_tradeoff(points: pd.DataFrame, heading: str, styles: Styles = NO_STYLES) -> Figure:
    """The figure of one model and site, a panel per method and k; up and right is better.

    Each point has its strength next to it, and is hollow if most replies are degenerate. A ring is around the
    setting with coherent replies, a square around the one that the paper's rule chose, both with 95 %
    intervals; the star is the unsteered model. All panels have the same axes.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels = _panels(points)
    across = 2 if len(panels) in (2, 4) else min(ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    size = (max(4.5, PANEL[0] * across), 0.9 + PANEL[1] * down)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    figure.suptitle(heading, fontsize=11)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    places = list(grid.flat)
    _limits(places[0], points)
    for place, (axes, (method, k)) in enumerate(zip(places, panels, strict=False)):
        _draw_panel(axes, points, method, k, styles)
        if place % across == 0:
            axes.set_ylabel("utility, %")
        if place + across >= len(panels):
            axes.set_xlabel("safety, % (100 − attack success)")
            axes.tick_params(labelbottom=True)
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3 if across > 1 else 1, fontsize=8)
    return figure


def _panels(points: pd.DataFrame) -> list[tuple[str, int | None]]:
    """The method and k of each panel: DiM, then the SAEs in the order of tables."""
    kinds = points[points["method"] != "original"][["method", "k"]].drop_duplicates()
    found = [
        (str(method), None if present(k) is None else int(k))
        for method, k in kinds.itertuples(index=False, name=None)
    ]
    order = ["dim", *variant_order(method for method, _ in found if method != "dim")]
    return sorted(found, key=lambda panel: (order.index(panel[0]), panel[1] is None, panel[1] or 0))


def _draw_panel(axes: Axes, points: pd.DataFrame, method: str, k: int | None, styles: Styles) -> None:
    look = _look(method, styles)
    mine = points[points["method"] == method]
    mine = mine[mine["k"].isna() if k is None else (mine["k"] == k).fillna(value=False)]
    axes.set_title(look.pop("label") + (f", {with_k(k)}" if k is not None else ""), fontsize=9)
    for row in points[points["method"] == "original"].itertuples():
        axes.plot([row.safety], [row.utility], "*", color="black", markersize=11, zorder=2)
    for _, curve in mine.groupby(["width", "seed", "candidate"], dropna=False):
        _draw(axes, curve, look)
    _draw_strengths(axes, mine)


def _look(method: str, styles: Styles) -> dict[str, Any]:
    if method == "dim":
        return {"label": "DiM", **DIM_LOOK}
    style = variant_style(method, styles)
    return {"label": style.title, "color": style.colour, "marker": style.marker}


def _draw(axes: Axes, curve: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw one SAE's points; negative and positive strengths are separate lines, dashed and solid.

    The unsteered model is between the two.
    """
    for side, dashes in ((curve[curve["strength"] < 0], "--"), (curve[curve["strength"] > 0], "-")):
        axes.plot(side["safety"], side["utility"], dashes, color=lighten(look["color"], 0.5), linewidth=0.9)
    for row in curve.itertuples():
        fill = "white" if row.degenerate > 100 * DEGENERATE else look["color"]
        axes.plot([row.safety], [row.utility], markersize=5, markerfacecolor=fill, zorder=3, **look)
    for row, shape in _rings(curve):
        axes.errorbar(
            [row.safety],
            [row.utility],
            xerr=[[row.safety - row.safety_low], [row.safety_high - row.safety]],
            yerr=[[row.utility - row.utility_low], [row.utility_high - row.utility]],
            fmt=shape,
            markersize=_SIZES[shape],
            markerfacecolor="none",
            color=look["color"],
            elinewidth=0.7,
            capsize=2,
            zorder=4,
        )


def _rings(curve: pd.DataFrame) -> Iterator[tuple[Any, str]]:
    """The chosen settings, each with the shape of every rule that chose it."""
    for row in curve[curve["chosen"]].itertuples():
        rules = str(row.chosen_by).split(", ")
        yield from ((row, _SHAPES[rule]) for rule in rules)


def _draw_strengths(axes: Axes, points: pd.DataFrame) -> None:
    """Write the strengths next to the points; those of points at the same place share one text."""
    shared: dict[tuple[float, float], list[str]] = {}
    for row in points.itertuples():
        text = "removed" if math.isnan(row.strength) else f"{row.strength:+g}".replace("-", "−")
        shared.setdefault((round(row.safety, 1), round(row.utility, 1)), []).append(text)
    places = sorted(shared)
    texts = [", ".join(dict.fromkeys(shared[place])) for place in places]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    scale = (_INNER[0] / (right - left), _INNER[1] / (high - low))
    spots = [((x - left) * scale[0], (y - low) * scale[1]) for x, y in places]
    boxes = offsets(spots, texts, _SMALL, (0.0, 0.0, *_INNER))
    for place, spot, text, box in zip(places, spots, texts, boxes, strict=True):
        middle = ((box[0] + box[2]) / 2 - spot[0], (box[1] + box[3]) / 2 - spot[1])
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": _SMALL, "color": "#333333"}
        style["bbox"] = {
            "boxstyle": "square,pad=0.05",
            "facecolor": "white",
            "edgecolor": "none",
            "alpha": 0.7,
        }
        axes.annotate(text, place, xytext=middle, textcoords="offset points", zorder=5, **style)


def _limits(axes: Axes, points: pd.DataFrame) -> None:
    """Axes around all points; intervals may reach beyond, because they would hide the differences."""
    for name, set_limits in (("safety", axes.set_xlim), ("utility", axes.set_ylim)):
        set_limits(points[name].min() - _MARGIN, min(points[name].max(), 100.0) + _MARGIN)


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    grey: dict[str, Any] = {"color": "#555555", "linestyle": "none"}
    return [
        Line2D([], [], marker="*", color="black", linestyle="none", markersize=10, label="unsteered"),
        Line2D([], [], marker="o", markersize=5, label="number: strength", **grey),
        Line2D([], [], marker="o", markersize=5, markerfacecolor="white", label=_HOLLOW, **grey),
        Line2D([], [], marker="o", markersize=10, markerfacecolor="none", label="coherent replies", **grey),
        Line2D([], [], marker="s", markersize=13, markerfacecolor="none", label="paper's rule", **grey),
        Line2D([], [], color="#888888", linestyle="-", label="positive strengths"),
        Line2D([], [], color="#888888", linestyle="--", label="negative strengths"),
    ]


_SHAPES = {"coherent": "o", "paper": "s"}
_SIZES = {"o": 10, "s": 13}
"""The larger shape leaves room for the smaller one where both rules chose the same setting."""
_HOLLOW = "hollow: most replies degenerate"


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    kept = (record.get("details") or {}).get("steering")
    if record["status"] != "done" or kept is None:
        return
    labels = record["labels"]
    place = {name: labels[name] for name in ("model", "site")}
    shared = {**place, "k": None, "width": None, "seed": None}
    unsteered = {"candidate": 0, "strength": 0.0, "chosen": False, "chosen_by": ""}
    yield {**shared, "method": "original", **unsteered, **_shares(unsteered_beside_curve(kept))}
    yield from _curve({**shared, "method": "dim"}, kept["dim"])
    own = {name: labels[name] for name in ("k", "width", "seed")}
    yield from _curve({**place, "method": labels["variant"], **own}, kept["sae"])


def _curve(labels: dict[str, Any], method: dict[str, Any]) -> Iterator[dict[str, Any]]:
    choices = rules_of(method)
    for candidate, strength, row in curve_of(method):
        if row is None:
            continue
        by = [
            rule
            for rule, choice in choices.items()
            if choice["steered"] and (choice["number"], choice["strength"]) == (candidate, strength)
        ]
        at = {"candidate": candidate, "strength": math.nan if strength is None else strength}
        yield {**labels, **at, "chosen": bool(by), "chosen_by": ", ".join(by), **_shares(row)}


def _shares(row: Values) -> dict[str, float]:
    """The shares with their intervals, in percent."""
    found = {
        f"{share}{end}": 100 * row[share][place]
        for share in _SHARES
        for place, end in enumerate(("", "_low", "_high"))
    }
    return {**found, "degenerate": 100 * row["degenerate"][0]}


TRADEOFF = TaskFigure(
    "tradeoff",
    "Utility against safety at every strength",
    tradeoff_points,
    draw_tradeoff,
    "Validation data, on which settings are chosen. A panel per method; the number at each point is its "
    "strength; up and right is better. Hollow points: most replies are degenerate. Rings: the settings with "
    "coherent replies; squares: those of the paper's rule; both with 95 % intervals.",
    tradeoff_chart,
)
"""The figure of `safety_utility`."""
