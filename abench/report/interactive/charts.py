"""The figures as plain data for the page: panels, and series with the values that are shown on hover.

They are read from the CSV files next to the figures, so that page and files show the same points.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from abench.report.attempts import attempt
from abench.report.axes import LABELS as AXES
from abench.report.curves import PANELS
from abench.report.interactive.series import (
    Chart,
    ChartMaker,
    Row,
    count,
    grouped,
    labels,
    look,
    name,
    number,
    points,
    rows_of,
)
from abench.report.saes import absent_last, with_k
from abench.report.style import Styles

MOST_POINTS = 200
"""Most points of a training curve on the page; the CSV file has all of them."""
MOST_SERIES = 400
"""Most series of a figure with values on hover; with more, the page shows the drawing only."""


def charts(
    figures: Mapping[str, Sequence[Path]], own: Sequence[tuple[Path, ChartMaker]], styles: Styles
) -> dict[str, Chart]:
    """Name of a figure -> its chart, with a title, for those that have one.

    `figures` maps a kind to PNG files; `own` are those of tasks. A task's chart that cannot be made is left
    out; the page then shows the image.
    """
    found = {}
    for kind, make in _MAKERS.items():
        for file in figures.get(kind, ()):
            rows = rows_of(file.with_suffix(".csv"))
            found[file.stem] = _titled(rows, make(rows, styles))
    for file, make in own:
        found[file.stem] = attempt(
            "", partial(_of_task, file, make, styles), {"series": ()}, raised=(OSError,)
        )[0]
    return {stem: chart for stem, chart in found.items() if 0 < len(chart["series"]) <= MOST_SERIES}


def _of_task(file: Path, make: ChartMaker, styles: Styles) -> Chart:
    rows = rows_of(file.with_suffix(".csv"))
    chart = _titled(rows, make(rows, styles))
    json.dumps(chart, allow_nan=False)  # raises an error for what the page cannot hold
    return chart


def _titled(rows: Sequence[Row], chart: Chart) -> Chart:
    first = next(iter(rows), {"model": "", "site": ""})
    return {"title": f"{first['model']}, {first['site']}", **chart}


def _reconstruction(rows: Sequence[Row], styles: Styles) -> Chart:
    """Training curves, and metrics against measured L0."""
    used = [panel for panel in PANELS if panel in {row["panel"] for row in rows}]
    ks = sorted({count(row["k"]) for row in rows}, key=absent_last, reverse=True)
    series = []
    for panel, place in ((panel, place) for place, panel in enumerate(used)):
        curve = panel == PANELS[0]
        names = ("variant", "width", "k") if curve else ("variant", "width")
        for mine in grouped((row for row in rows if row["panel"] == panel), names):
            shade = 0.5 * ks.index(count(mine[0]["k"])) / max(1, len(ks) - 1) if curve else 0.0
            ordered = _thinned(mine) if curve else sorted(mine, key=lambda row: float(row["x"]))
            # Metrics at several k are one line, whose points the filter of k selects.
            each = [ordered] if curve else [[point] for point in ordered]
            own = {"panel": place, **look(mine[0]["variant"], styles, shade)}
            series += [
                {
                    **own,
                    "name": name(some[0], styles),
                    "labels": labels(some[0]),
                    "mode": "lines" if curve else "markers",
                    **points(some, ("x", "y"), ("x_sd", "y_sd")),
                    "text": [f"n = {point['n']}" for point in some],
                }
                for some in each
            ]
    panels = [{"x": AXES[panel][0], "y": AXES[panel][1], "log": panel == PANELS[0]} for panel in used]
    return {"panels": panels, "series": series}


def _tasks(rows: Sequence[Row], styles: Styles) -> Chart:
    """Bars: a panel per k, a group per task."""
    ks = sorted({count(row["k"]) for row in rows}, key=absent_last)
    several = len({row["view"] for row in rows}) > 1
    series = []
    for mine in grouped((row for row in rows if row["mean"]), ("k", "variant", "width", "view")):
        first = mine[0]
        shown = [row | {"x": _task(row)} for row in map(dict, mine)]
        series.append(
            {
                "panel": ks.index(count(first["k"])),
                **look(first["variant"], styles, 0.4 if first["view"] == "split" else 0.0),
                "name": name(first, styles) + (f" ({first['view']})" if several else ""),
                "labels": labels(first),
                "mode": "bars",
                "x": [point["x"] for point in shown],
                "y": [number(point["mean"]) for point in shown],
                "dy": [number(point["sd"]) for point in shown],
                "text": [f"n = {point['n']}" for point in shown],
            }
        )
    return {"panels": [{"x": "", "y": f"Score, {with_k(k)}", "log": False} for k in ks], "series": series}


def _task(row: Row) -> str:
    return row["task"] + (", 1 − score" if row["shown"] == "1 - score" else "")


_MAKERS: Mapping[str, ChartMaker] = {"reconstruction": _reconstruction, "tasks": _tasks}
"""Kind of figure -> its chart. The Pareto front is shown as a drawing."""


def _thinned(rows: Sequence[Row]) -> list[Row]:
    """At most `MOST_POINTS` rows at equal distances, with the first and the last."""
    if len(rows) <= MOST_POINTS:
        return list(rows)
    step = (len(rows) - 1) / (MOST_POINTS - 1)
    return [rows[round(i * step)] for i in range(MOST_POINTS)]
