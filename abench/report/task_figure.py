"""The paper's figure of tasks: one group of bars per task, one bar per variant, width and view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.report.bars import BAR, task_bars
from abench.report.drawings import Drawings
from abench.report.figures import figure_names
from abench.report.saes import absent_last, present, with_k
from abench.report.style import HATCHES, NO_STYLES, Styles, lighten, variant_order, variant_style
from abench.report.tables import Column, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST = -0.5
"""Lower limit of the y axis. SCR is unbounded below: a longer bar is cut off and labelled with its value."""
GROUP_WIDTH = 0.84
PER_LINE = 6
"""Legend entries per line."""
SMALL: dict[str, Any] = {"ha": "center", "fontsize": 6, "rotation": 90, "color": "#222222"}
ON_WHITE = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"}
PAPER_MARK: dict[str, Any] = {
    "marker": "D",
    "markersize": 4,
    "markerfacecolor": "white",
    "markeredgecolor": "#222222",
    "linestyle": "none",
}

Bar = tuple[str, int, str]
"""Variant, width, view."""


@dataclass(frozen=True)
class Look:
    """The look of the bars of one variant, width and view, and their position within each group."""

    label: str
    colour: str
    hatch: str
    shift: float
    """Offset of the bar's centre from the group's centre."""
    breadth: float


def write_task_figures(table: Table, drawings: Drawings, styles: Styles = NO_STYLES) -> list[Path]:
    """Write one figure per model and site of the paper's table of tasks, as PNG, PDF and CSV of its bars.

    Returns the PNG paths. A model and site without values gets no figure. Equal input gives equal bytes.
    """
    bars = task_bars(table)
    groups = [group for group in bars.groupby(["model", "site"], sort=True) if group[1]["mean"].notna().any()]
    names = figure_names([place for place, _ in groups], "task_scores")
    return [
        drawings.add(name, draw_tasks, group, table.columns, ", ".join(place), styles)
        for name, (place, group) in zip(names, groups, strict=True)
    ]


def draw_tasks(
    bars: pd.DataFrame, columns: Sequence[Column], heading: str, styles: Styles = NO_STYLES
) -> Figure:
    """The figure of one model and site, with one panel per k, from top to bottom."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    looks, panels = _looks(bars, styles), _by_k(bars)
    figure = Figure(
        figsize=_size(len(columns), len(looks), len(panels)),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06),
    )
    figure.suptitle(heading, fontsize=11)
    for (axes,), (k, panel) in zip(figure.subplots(len(panels), 1, squeeze=False), panels, strict=True):
        _draw_panel(axes, panel, columns, looks)
        axes.set_title(f"{with_k(k)}, {_seeds(panel)}", fontsize=9)
    handles = _legend(looks.values(), paper=bars["paper"].notna().any())
    figure.legend(handles=handles, loc="outside lower center", ncols=PER_LINE)
    return figure


def _by_k(bars: pd.DataFrame) -> list[tuple[int | None, pd.DataFrame]]:
    """The bars of each k, from small to large; those of SAEs whose k is not stated come last."""
    ks = sorted(set(map(present, bars["k"])), key=absent_last)
    return [(k, bars[bars["k"].isna() if k is None else (bars["k"] == k).fillna(value=False)]) for k in ks]


def _size(groups: int, bars: int, panels: int) -> tuple[float, float]:
    """Width and height in inches: wide enough to distinguish bars, within the limits of a page."""
    legend_lines = -(-(bars + 1) // PER_LINE)
    return max(8.0, min(18.0, 1.5 + groups * (0.6 + 0.13 * bars))), 0.8 + 2.6 * panels + 0.2 * legend_lines


def _draw_panel(axes: Axes, bars: pd.DataFrame, columns: Sequence[Column], looks: dict[Bar, Look]) -> None:
    places = {tuple(column.key): place for place, column in enumerate(columns)}
    tasks = zip(bars["task"], bars["task_version"], bars["metric"], strict=True)
    placed = bars.assign(place=[places[key] for key in tasks])
    for bar, mine in placed.groupby(list(BAR), sort=False):
        _draw_series(axes, mine.assign(x=mine["place"] + looks[bar].shift), looks[bar])
    axes.axhline(0, color="#666666", linewidth=0.8)
    axes.set_xticks(range(len(columns)), [_tick(column) for column in columns])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylabel="Score")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], LOWEST))


def _draw_series(axes: Axes, bars: pd.DataFrame, look: Look) -> None:
    """Draw the bars of one look, one per task."""
    done, spread, marked = (bars.dropna(subset=name) for name in ("mean", "sd", "paper"))
    axes.bar(done["x"], done["mean"], look.breadth, **_fill(look))
    if len(spread):
        axes.errorbar(spread["x"], spread["mean"], yerr=spread["sd"], **_whiskers(look))
    if len(marked):
        axes.plot(marked["x"], marked["paper"], **PAPER_MARK)
    for bar in done[done["mean"] < LOWEST].itertuples():
        axes.annotate(f"{bar.mean:.2f}", (bar.x, LOWEST + 0.02), **SMALL, va="bottom", bbox=ON_WHITE)
    for bar in bars[bars["mean"].isna()].itertuples():
        _note_absence(axes, bar)


def _fill(look: Look) -> dict[str, Any]:
    return {"color": look.colour, "hatch": look.hatch, "edgecolor": "white", "linewidth": 0.3}


def _whiskers(look: Look) -> dict[str, Any]:
    return {"fmt": "none", "ecolor": "#222222", "elinewidth": 0.9, "capsize": min(2.5, 20 * look.breadth)}


def _note_absence(axes: Axes, bar: Any) -> None:
    """Draw the table's text for missing seeds in place of the bar."""
    above: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points", "va": "bottom"}
    text, turned = (f"{bar.n}/{bar.N}", SMALL) if bar.n else ("—", SMALL | {"rotation": 0})
    axes.annotate(text, (bar.x, 0), **turned, **above)


def _tick(column: Column) -> str:
    """The label of a group: the task, `1 − score` below it if that is shown, and the arrow."""
    if column.title:
        return f"{column.task_label}\n{column.metric_label}"
    return f"{column.task_label} {column.arrow}".rstrip()


def _seeds(bars: pd.DataFrame) -> str:
    """The number of seeds of the means, for a panel's title."""
    counts = sorted(bars.loc[bars["mean"].notna(), "n"].unique())
    if not counts:
        return "no values"
    if counts == [1]:
        return "n = 1 seed, hence no error bars"
    return f"n = {'–'.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} seeds"


def _looks(bars: pd.DataFrame, styles: Styles) -> dict[Bar, Look]:
    """The look of each bar, in the order of the table's rows; larger widths of a variant are paler."""
    kinds: list[Bar] = list(bars[list(BAR)].drop_duplicates().itertuples(index=False, name=None))
    order = variant_order(variant for variant, _, _ in kinds)
    kinds.sort(key=lambda bar: (order.index(bar[0]), *bar[1:]))
    return {bar: _look(bar, rank, kinds, styles) for rank, bar in enumerate(kinds)}


def _look(bar: Bar, rank: int, kinds: Sequence[Bar], styles: Styles) -> Look:
    variant, width, view = bar
    style = variant_style(variant, styles)
    widths = sorted({each[1] for each in kinds if each[0] == variant})
    title = style.title + (f", {width:,} latents" if len({each[1] for each in kinds}) > 1 else "")
    views = {each[2] for each in kinds if each[0] == variant}
    return Look(
        label=f"{title} ({view})" if len(views) > 1 else title,
        colour=lighten(style.colour, 0.5 * widths.index(width) / len(widths)),
        hatch=HATCHES.get(view, ""),
        shift=GROUP_WIDTH * ((rank + 0.5) / len(kinds) - 0.5),
        breadth=GROUP_WIDTH / len(kinds),
    )


def _legend(looks: Iterable[Look], *, paper: bool) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    bars = [
        Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", label=look.label) for look in looks
    ]
    return [*bars, *([Line2D([], [], label="the paper's number", **PAPER_MARK)] if paper else [])]
