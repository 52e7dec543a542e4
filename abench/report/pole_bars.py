"""The figure of Table 2: one stacked bar per SAE, with a judge's verdicts on its latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from abench.figures import TaskFigure
from abench.report.bidirectionality import KINDS, TASK, grouped, poles_of
from abench.report.cells import place_of, planned_seeds
from abench.report.frame import Record
from abench.report.saes import present, with_k
from abench.report.style import NO_STYLES, Styles, variant_style
from abench.report.validity import is_valid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PARTS = {
    "opposites": ("bidirectional, opposites", "#882255"),
    "other bidirectional": ("bidirectional, other", "#CC6677"),
    "unidirectional": ("unidirectional", "#88CCEE"),
    "none": ("none", "#DDDDDD"),
}
"""Part of a bar -> (label, colour), from bottom to top."""
COLUMNS = ("model", "site", "k", "variant", "width", "part", "mean", "sd", "seeds", "latents")


def pole_parts(records: Sequence[Record]) -> pd.DataFrame:
    """One row per part of a bar, in percent: mean and sample standard deviation over seeds.

    Bars with a missing seed are omitted, or with one whose verdicts mean nothing.
    """
    import pandas as pd

    judged = [record for record in records if poles_of(record) and is_valid(record, KINDS)]
    planned, found = planned_seeds(records, TASK), planned_seeds(judged, TASK)
    cells = [cell for cell in judged if found[place_of(cell)] == planned[place_of(cell)]]
    places = sorted({(cell["labels"]["model"], cell["labels"]["site"]) for cell in cells})
    rows = [row for place in places for row in _rows(place, cells)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"k": "Int64"})


def draw_poles(parts: pd.DataFrame, heading: str, styles: Styles = NO_STYLES) -> Figure:
    """The figure of one model and site, with bars in the order of the table's rows."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    bars = parts[["k", "variant", "width"]].drop_duplicates().to_records(index=False).tolist()
    size = (max(4.5, 1.8 + 0.9 * len(bars)), 3.8)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    bottom = [0.0] * len(bars)
    for part, (label, colour) in PARTS.items():
        heights = parts[parts["part"] == part]["mean"].tolist()
        axes.bar(range(len(bars)), heights, 0.7, bottom=bottom, color=colour, label=label, edgecolor="white")
        for place, (low, height) in enumerate(zip(bottom, heights, strict=True)):
            if height >= 4:
                dark = part == "opposites"
                axes.annotate(
                    f"{height:.0f}",
                    (place, low + height / 2),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(range(len(bars)), [_tick(bar, bars, styles) for bar in bars])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 100), ylabel="judged latents, %", title=heading)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _rows(place: tuple[str, str], cells: Sequence[Record]) -> Iterator[tuple[Any, ...]]:
    mine = [cell for cell in cells if (cell["labels"]["model"], cell["labels"]["site"]) == place]
    for (k, variant, width), same in grouped(mine).items():
        shares = [cell["details"]["poles"]["shares"] for cell in same]
        judged = sum(each["none"][3] for each in shares)
        for part in PARTS:
            values = [100 * _share(each, part) for each in shares]
            sd = stdev(values) if len(values) > 1 else None
            yield (*place, k, variant, width, part, fmean(values), sd, len(values), judged)


def _share(shares: Any, part: str) -> float:
    if part == "other bidirectional":
        return float(shares["bidirectional"][0] - shares["opposites"][0])
    return float(shares[part][0])


def _tick(bar: tuple[int, str, int], bars: Sequence[tuple[int, str, int]], styles: Styles) -> str:
    k, variant, width = bar
    several = len({each[2] for each in bars}) > 1
    return f"{variant_style(variant, styles).title}\n{with_k(present(k))}" + (
        f"\n{width:,} latents" if several else ""
    )


POLE_SHARES = TaskFigure(
    "bidirectionality",
    "Shares of bidirectional, unidirectional and other latents",
    pole_parts,
    draw_poles,
    "The judge's verdicts on the latents of each SAE, means over seeds; bars with missing seeds are omitted.",
)
"""The figure of `bidirectionality`."""
