"""The figure of Table 2: one stacked bar per SAE and one of the baseline, with a judge's verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from abench.figures import TaskFigure
from abench.report.bidirectionality import POLES, RANDOM, RANDOM_TITLE, baseline
from abench.report.frame import Record
from abench.report.rows import Planned, by_place, by_row, planned_seeds, stored
from abench.report.saes import present, with_k
from abench.report.style import NO_STYLES, Styles, variant_style
from abench.report.validity import is_valid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

Shares = Mapping[str, Sequence[float]]
"""Verdict -> [value, low, high, n]."""
PARTS = {
    "opposites": ("bidirectional, opposites", "#882255"),
    "other bidirectional": ("bidirectional, other", "#CC6677"),
    "bidirectional": ("bidirectional", "#CC6677"),
    "unidirectional": ("unidirectional", "#88CCEE"),
    "none": ("none", "#DDDDDD"),
}
"""Part of a bar -> (label, colour), from bottom to top."""
GREYS = dict(zip(PARTS, ("#555555", "#8C8C8C", "#8C8C8C", "#BDBDBD", "#E8E8E8"), strict=True))
"""Part of the baseline's bar, which has no width, -> colour."""
UNDIVIDED = ("bidirectional", "unidirectional", "none")
"""The parts of bars if a judge cannot tell opposites."""
COLUMNS = (
    *("model", "site", "k", "variant", "width", "part"),
    *("mean", "sd", "top_low", "top_high", "seeds", "latents"),
)
_WHISKERS = {"opposites": 0.14, "other bidirectional": 0.21, "bidirectional": 0.21, "unidirectional": 0.28}
"""Part -> where the interval of its upper end is drawn: right of the numbers, from the middle of the bar."""


def pole_parts(records: Sequence[Record]) -> pd.DataFrame:
    """One row per part of a bar, in percent: mean and sample standard deviation over seeds.

    Bars with a missing seed are omitted, or with one whose verdicts mean nothing. If a judge cannot tell
    opposites, bidirectional latents are one part in all bars of the model and site. `top_low` and `top_high`
    are the 95 % interval of the upper end of a part; only the baseline, which has no seeds, has one.
    """
    import pandas as pd

    judged = [cell for cell in stored(records, POLES) if is_valid(cell, UNDIVIDED)]
    planned = planned_seeds(records)
    rows = [(*place, *row) for place, cells in by_place(judged) for row in _rows(cells, planned)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"k": "Int64", "width": "Int64"})


def draw_poles(parts: pd.DataFrame, heading: str, styles: Styles = NO_STYLES) -> Figure:
    """The figure of one model and site, with bars in the order of the table's rows."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    bars = list(parts.groupby(["k", "variant", "width"], sort=False, dropna=False))
    figure = Figure(figsize=(max(4.5, 1.8 + 0.9 * len(bars)), 3.8), layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    for place, (_, bar) in enumerate(bars):
        _draw_bar(axes, place, bar)
    several = parts["width"].nunique() > 1
    axes.set_xticks(range(len(bars)), [_tick(bar, styles, several=several) for bar, _ in bars])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 100), ylabel="judged latents, %", title=heading)
    figure.legend(handles=_key(set(parts["part"])), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _draw_bar(axes: Axes, place: int, bar: pd.DataFrame) -> None:
    """One stacked bar: the shares as numbers where there is room, and intervals where there are some."""
    bottom = 0.0
    for row in bar.itertuples():
        colour = GREYS[row.part] if present(row.width) is None else PARTS[row.part][1]
        axes.bar(place, row.mean, 0.7, bottom=bottom, color=colour, edgecolor="white")
        if row.mean >= 4:
            ink = "white" if row.part == "opposites" else "black"
            centre = (place, bottom + row.mean / 2)
            axes.annotate(f"{row.mean:.0f}", centre, ha="center", va="center", fontsize=8, color=ink)
        bottom += row.mean
        if present(row.top_low) is not None:
            x = place + _WHISKERS[row.part]
            axes.plot([x, x], [row.top_low, row.top_high], "_-", color="#222222", linewidth=1)


def _key(drawn: Collection[str]) -> list[Patch]:
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=label) for part, (label, colour) in PARTS.items() if part in drawn]


def _rows(cells: Sequence[Record], planned: Planned) -> Iterator[tuple[Any, ...]]:
    """The parts of the bars of one model and site; the baseline follows if there is another bar."""
    whole = {key: same for key, same in by_row(cells).items() if len(same) == planned[key]}
    divided = all(is_valid(cell, ("opposites",)) for cell in cells)
    parts = [part for part in PARTS if part != "bidirectional"] if divided else UNDIVIDED
    for key, same in whole.items():
        shares = [cell["details"][POLES]["shares"] for cell in same]
        judged = sum(each["none"][3] for each in shares)
        for part in parts:
            values = [100 * _share(each, part) for each in shares]
            sd = stdev(values) if len(values) > 1 else None
            yield key.k, key.variant, key.width, part, fmean(values), sd, None, None, len(values), judged
    measured = baseline(cells)
    if whole and measured is not None:
        drawn = measured["details"][POLES]["random"]
        for part in parts:
            mean, (low, high) = 100 * _share(drawn, part), _top(drawn, part)
            yield None, RANDOM, None, part, mean, None, low, high, None, drawn["none"][3]


def _share(shares: Shares, part: str) -> float:
    if part == "other bidirectional":
        return float(shares["bidirectional"][0] - shares["opposites"][0])
    return float(shares[part][0])


def _top(shares: Shares, part: str) -> tuple[float | None, float | None]:
    """The interval of the upper end of a part in percent; None for that of the whole bar."""
    if part == "none":
        return None, None
    if part == "unidirectional":
        _, low, high, _ = shares["none"]
        return 100 * (1 - high), 100 * (1 - low)
    _, low, high, _ = shares["opposites" if part == "opposites" else "bidirectional"]
    return 100 * low, 100 * high


def _tick(bar: tuple[Any, ...], styles: Styles, *, several: bool) -> str:
    k, variant, width = bar
    if present(width) is None:
        return RANDOM_TITLE.replace(" ", "\n")
    title = f"{variant_style(variant, styles).title}\n{with_k(present(k))}"
    return f"{title}\n{width:,} latents" if several else title


POLE_SHARES = TaskFigure(
    "bidirectionality",
    "Shares of bidirectional, unidirectional and other latents",
    pole_parts,
    draw_poles,
    "The judge's verdicts on the latents of each SAE, means over seeds; bars with missing seeds are omitted. "
    "Grey: the baseline of random directions, with 95 % intervals of the upper ends of its parts.",
)
"""The figure of `bidirectionality`."""
