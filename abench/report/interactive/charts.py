"""The figures as plain data for the page: panels, and series with the values that are shown on hover.

They are read from the CSV files next to the figures, so that page and files show the same points.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from abench.report.axes import LABELS as AXES
from abench.report.csvfile import from_text
from abench.report.curves import PANELS
from abench.report.saes import absent_last, sae_name, with_k
from abench.report.style import Styles, lighten, variant_style

Row = Mapping[str, str]
"""A line of a CSV file by column."""
Chart = dict[str, Any]
"""`title`; `panels`: titles of axes; `series`: a look, labels for filters, and points each."""

MOST_POINTS = 200
"""Most points of a training curve on the page; the CSV file has all of them."""
MOST_SERIES = 400
"""Most series of a figure with values on hover; with more, the page shows the drawing only."""
HOLLOW_FROM = 50.0
"""Percentage of degenerate replies from which on a point is hollow."""


def charts(figures: Mapping[str, Sequence[Path]], styles: Styles) -> dict[str, Chart]:
    """Name of a figure -> its chart, for the kinds that have one; `figures` maps a kind to PNG files."""
    found = {}
    for kind, make in _MAKERS.items():
        for file in figures.get(kind, ()):
            rows = _rows(file.with_suffix(".csv"))
            chart = make(rows, styles)
            if 0 < len(chart["series"]) <= MOST_SERIES:
                found[file.stem] = {"title": f"{rows[0]['model']}, {rows[0]['site']}", **chart}
    return found


def _rows(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [{name: str(from_text(text)) for name, text in row.items()} for row in csv.DictReader(stream)]


def _reconstruction(rows: Sequence[Row], styles: Styles) -> Chart:
    """Training curves, and metrics against measured L0."""
    used = [panel for panel in PANELS if panel in {row["panel"] for row in rows}]
    ks = sorted({_count(row["k"]) for row in rows}, key=absent_last, reverse=True)
    series = []
    for panel, number in ((panel, number) for number, panel in enumerate(used)):
        curve = panel == PANELS[0]
        names = ("variant", "width", "k") if curve else ("variant", "width")
        for mine in _grouped((row for row in rows if row["panel"] == panel), names):
            shade = 0.5 * ks.index(_count(mine[0]["k"])) / max(1, len(ks) - 1) if curve else 0.0
            points = _thinned(mine) if curve else sorted(mine, key=lambda row: float(row["x"]))
            # Metrics at several k are one line, whose points the filter of k selects.
            each = [points] if curve else [[point] for point in points]
            look = {"panel": number, **_look(mine[0]["variant"], styles, shade)}
            series += [
                {
                    **look,
                    "name": _name(some[0], styles),
                    "labels": _labels(some[0]),
                    "mode": "lines" if curve else "markers",
                    **_points(some, ("x", "y"), ("x_sd", "y_sd")),
                    "text": [f"n = {point['n']}" for point in some],
                }
                for some in each
            ]
    panels = [{"x": AXES[panel][0], "y": AXES[panel][1], "log": panel == PANELS[0]} for panel in used]
    return {"panels": panels, "series": series}


def _tradeoff(rows: Sequence[Row], styles: Styles) -> Chart:
    """Utility against safety: a series per method, with a gap between negative and positive strengths."""
    series = []
    titles = {"original": "Original", "dim": "DiM"}
    for mine in _grouped(rows, ("method", "k", "width", "seed", "candidate")):
        method = mine[0]["method"]
        ordered = sorted(mine, key=_size)
        other = {"name": titles.get(method), "colour": "#555555", "symbol": "x"}
        own = {"name": _name({**mine[0], "variant": method}, styles), **_look(method, styles)}
        look = own if method not in titles else other if method == "dim" else other | {"symbol": "star"}
        series.append(
            {
                **look,
                "panel": 0,
                "labels": _labels({**mine[0], "variant": method}),
                "mode": "lines+markers",
                "gaps": [i for i in range(1, len(ordered)) if _sides(ordered[i - 1 : i + 1])],
                **_points(ordered, ("safety", "utility"), ()),
                "hollow": [float(row.get("degenerate") or 0) > HOLLOW_FROM for row in ordered],
                "text": list(map(_strength, ordered)),
            }
        )
    axes = {"x": "safety, % (100 − attack success)", "y": "utility, %", "log": False}
    return {"panels": [axes], "series": series}


def _sides(pair: Sequence[Row]) -> bool:
    """Whether two neighbours have strengths of different signs."""
    return _size(pair[0]) < 0 <= _size(pair[1])


def _size(row: Row) -> float:
    """A setting's strength; 0 for a direction that is removed, which has none."""
    return float(row["strength"] or 0)


def _strength(row: Row) -> str:
    chosen = f", chosen ({row['chosen_by']})" if row["chosen"] == "True" else ""
    degenerate = f", {float(row['degenerate']):.3g} % degenerate" if row.get("degenerate") else ""
    strength = f"strength {_size(row):g}" if row["strength"] else "removed"
    return f"{strength}{chosen}{degenerate}".replace("-", "−")


def _tasks(rows: Sequence[Row], styles: Styles) -> Chart:
    """Bars: a panel per k, a group per task."""
    ks = sorted({_count(row["k"]) for row in rows}, key=absent_last)
    several = len({row["view"] for row in rows}) > 1
    series = []
    for mine in _grouped((row for row in rows if row["mean"]), ("k", "variant", "width", "view")):
        first = mine[0]
        points = [row | {"x": _task(row)} for row in map(dict, mine)]
        series.append(
            {
                "panel": ks.index(_count(first["k"])),
                **_look(first["variant"], styles, 0.4 if first["view"] == "split" else 0.0),
                "name": _name(first, styles) + (f" ({first['view']})" if several else ""),
                "labels": _labels(first),
                "mode": "bars",
                "x": [point["x"] for point in points],
                "y": [_number(point["mean"]) for point in points],
                "dy": [_number(point["sd"]) for point in points],
                "text": [f"n = {point['n']}" for point in points],
            }
        )
    return {"panels": [{"x": "", "y": f"Score, {with_k(k)}", "log": False} for k in ks], "series": series}


def _task(row: Row) -> str:
    return row["task"] + (", 1 − score" if row["shown"] == "1 - score" else "")


_MAKERS: Mapping[str, Callable[[Sequence[Row], Styles], Chart]] = {
    "reconstruction": _reconstruction,
    "tradeoffs": _tradeoff,
    "tasks": _tasks,
}
"""Kind of figure -> its chart. Figures of directions and of shares are shown as drawings."""

_SYMBOLS = {
    "o": "circle", "s": "square", "<": "triangle-left", ">": "triangle-right", "^": "triangle-up",
    "v": "triangle-down", "D": "diamond", "d": "diamond-tall", "h": "hexagon", "H": "hexagon2",
    "p": "pentagon", "*": "star", "P": "cross", "X": "x", "8": "octagon",
}  # fmt: skip
"""Marker of matplotlib -> symbol of plotly."""


def _look(variant: str, styles: Styles, shade: float = 0.0) -> dict[str, str]:
    style = variant_style(variant, styles)
    return {"colour": lighten(style.colour, shade), "symbol": _SYMBOLS.get(style.marker, "circle")}


def _name(row: Row, styles: Styles) -> str:
    labels = {**row, "k": _count(row["k"]), "seed": _count(row.get("seed", ""))}
    return sae_name(labels, styles, width=bool(row["width"]))


def _labels(row: Row) -> dict[str, str]:
    """The labels that the page's filters know."""
    return {name: row[name] for name in ("model", "site", "variant", "k")}


def _grouped(rows: Iterable[Row], names: Sequence[str]) -> Iterator[list[Row]]:
    """Rows that agree in these columns, in the order in which they first occur."""
    ordered = list(rows)
    first: dict[tuple[str, ...], int] = {}
    keys = [tuple(row[name] for name in names) for row in ordered]
    for key in keys:
        first.setdefault(key, len(first))
    pairs = sorted(zip(keys, ordered, strict=True), key=lambda pair: first[pair[0]])
    for _, group in groupby(pairs, key=lambda pair: pair[0]):
        yield [row for _, row in group]


def _points(rows: Sequence[Row], values: tuple[str, str], spreads: tuple[str, ...]) -> dict[str, Any]:
    """`x` and `y`, and `dx` and `dy` where a point has a standard deviation."""
    found = {name: [_number(row[of]) for row in rows] for name, of in zip("xy", values, strict=True)}
    for name, of in zip(("dx", "dy"), spreads, strict=False):
        if any(row[of] for row in rows):
            found[name] = [_number(row[of]) for row in rows]
    return found


def _thinned(rows: Sequence[Row]) -> list[Row]:
    """At most `MOST_POINTS` rows at equal distances, with the first and the last."""
    if len(rows) <= MOST_POINTS:
        return list(rows)
    step = (len(rows) - 1) / (MOST_POINTS - 1)
    return [rows[round(i * step)] for i in range(MOST_POINTS)]


def _number(text: str) -> float | None:
    return float(f"{float(text):.6g}") if text else None


def _count(text: str) -> int | None:
    return int(float(text)) if text else None
