"""The trade-off of steering: utility against safety, one curve per method, one point per strength."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.report.drawings import Drawings
from abench.report.figures import figure_names
from abench.report.frame import Record
from abench.report.style import NO_STYLES, Styles, variant_order, variant_style
from abench.report.validity import is_valid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = ("model", "site", "method", "k", "width", "seed")
_SHARES = ("utility", "safety")
COLUMNS = (
    *LABELS,
    "strength",
    "chosen",
    *(f"{share}{end}" for share in _SHARES for end in ("", "_low", "_high")),
)
DIM_LOOK: dict[str, Any] = {"color": "#555555", "marker": "X"}


def write_tradeoffs(records: Sequence[Record], drawings: Drawings, styles: Styles = NO_STYLES) -> list[Path]:
    """Write one figure per model and site with steered SAEs, as PNG, PDF and CSV of its points.

    Returns the PNG paths. Equal input gives equal bytes.
    """
    points = tradeoff_points(records)
    groups = list(points.groupby(["model", "site"], sort=True))
    names = figure_names([place for place, _ in groups], "tradeoff")
    return [
        drawings.add(name, draw_tradeoff, group, ", ".join(place), styles)
        for name, (place, group) in zip(names, groups, strict=True)
    ]


def tradeoff_points(records: Sequence[Record]) -> pd.DataFrame:
    """One row per method and strength.

    Settings without finite logits have no row, nor have cells in which utility or safety means nothing.
    """
    import pandas as pd

    rows = [row for record in records if is_valid(record, _SHARES) for row in _rows(record)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    # Every SAE's cell contains the unsteered model and DiM; they are drawn once.
    return frame.drop_duplicates().sort_values([*LABELS, "strength"], kind="stable", ignore_index=True)


def draw_tradeoff(points: pd.DataFrame, heading: str, styles: Styles = NO_STYLES) -> Figure:
    """The figure of one model and site; up and right is better. Rings: chosen settings, 95 % intervals."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(6.4, 4.6), layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    axes.set(xlabel="safety, % (100 − attack success)", ylabel="utility, %", title=heading)
    order = variant_order(set(points["method"]) - {"original", "dim"})
    for method in ["dim", *order]:
        mine = points[points["method"] == method]
        for number, (_, curve) in enumerate(mine.groupby(["k", "width", "seed"], dropna=False)):
            _draw(axes, curve, _look(method, styles), label=number == 0)
    for row in points[points["method"] == "original"].itertuples():
        axes.plot([row.safety], [row.utility], "*", color="black", markersize=12, label="Original", zorder=5)
    axes.legend(fontsize=8)
    return figure


def _look(method: str, styles: Styles) -> dict[str, Any]:
    if method == "dim":
        return {"label": "DiM", **DIM_LOOK}
    style = variant_style(method, styles)
    return {"label": style.title, "color": style.colour, "marker": style.marker}


def _draw(axes: Axes, curve: pd.DataFrame, look: dict[str, Any], *, label: bool) -> None:
    look = look if label else {**look, "label": None}
    for side in (curve[curve["strength"] < 0], curve[curve["strength"] > 0]):
        # Negative and positive strengths are separate curves, because the unsteered model is between them.
        axes.plot(side["safety"], side["utility"], linewidth=1, markersize=4, alpha=0.8, **look)
        look = {**look, "label": None}
    for row in curve[curve["chosen"]].itertuples():
        axes.errorbar(
            [row.safety],
            [row.utility],
            xerr=[[row.safety - row.safety_low], [row.safety_high - row.safety]],
            yerr=[[row.utility - row.utility_low], [row.utility_high - row.utility]],
            fmt="o",
            markersize=9,
            markerfacecolor="none",
            color=look["color"],
            capsize=2,
            zorder=4,
        )


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    kept = (record.get("details") or {}).get("steering")
    if record["status"] != "done" or kept is None:
        return
    labels = record["labels"]
    place = {name: labels[name] for name in ("model", "site")}
    shared = {**place, "k": None, "width": None, "seed": None}
    yield {**shared, "method": "original", "strength": 0.0, "chosen": False, **_shares(kept["original"])}
    yield from _sweep({**shared, "method": "dim"}, kept["dim"])
    own = {name: labels[name] for name in ("k", "width", "seed")}
    yield from _sweep({**place, "method": labels["variant"], **own}, kept["sae"])


def _sweep(labels: dict[str, Any], method: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in method["sweep"]:
        if "utility" in row:
            chosen = row["strength"] == method["strength"]
            yield {**labels, "strength": row["strength"], "chosen": chosen, **_shares(row)}


def _shares(row: dict[str, Any]) -> dict[str, float]:
    """The shares with their intervals, in percent."""
    return {
        f"{share}{end}": 100 * row[share][place]
        for share in _SHARES
        for place, end in enumerate(("", "_low", "_high"))
    }
