"""Parts of charts: rows of a figure's CSV file as the series that the page draws."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from abench.report.csvfile import from_text
from abench.report.saes import sae_name
from abench.report.style import Styles, lighten, variant_style

Row = Mapping[str, str]
"""A line of a CSV file by column."""
Chart = dict[str, Any]
"""`panels`: titles of axes; `series`: a look, labels for filters, and points each."""
ChartMaker = Callable[[Sequence[Row], Styles], Chart]

_SYMBOLS = {
    "o": "circle", "s": "square", "<": "triangle-left", ">": "triangle-right", "^": "triangle-up",
    "v": "triangle-down", "D": "diamond", "d": "diamond-tall", "h": "hexagon", "H": "hexagon2",
    "p": "pentagon", "*": "star", "P": "cross", "X": "x", "8": "octagon",
}  # fmt: skip
"""Marker of matplotlib -> symbol of plotly."""
_OF_SAE = ("variant", "k", "width", "seed", "view")


def line_chart(x: str, y: str, *, x_title: str = "", y_title: str = "") -> ChartMaker:
    """What a task's own figure shows on the page: a line per SAE through points (x, y), with hover values.

    `x` and `y` are columns of the points, which also need those of SAEs that `points_of` adds: variant, k,
    width, seed and view. The page's filters apply to the lines.
    """

    def chart(rows: Sequence[Row], styles: Styles) -> Chart:
        views = len({row["view"] for row in rows}) > 1
        series = []
        for mine in grouped((row for row in rows if row[x] and row[y]), _OF_SAE):
            first = mine[0]
            view = f" ({first['view']})" if views else ""
            series.append(
                {
                    "panel": 0,
                    **look(first["variant"], styles, 0.4 if views and first["view"] == "split" else 0.0),
                    "name": name(first, styles) + view,
                    "labels": labels(first),
                    "mode": "lines+markers",
                    **points(mine, (x, y), ()),
                    "text": [""] * len(mine),
                }
            )
        return {"panels": [{"x": x_title or x, "y": y_title or y, "log": False}], "series": series}

    return chart


def rows_of(file: Path) -> list[Row]:
    """The rows of a figure's CSV file."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [{name: str(from_text(text)) for name, text in row.items()} for row in csv.DictReader(stream)]


def look(variant: str, styles: Styles, shade: float = 0.0) -> dict[str, str]:
    """Colour and symbol of a variant."""
    style = variant_style(variant, styles)
    return {"colour": lighten(style.colour, shade), "symbol": _SYMBOLS.get(style.marker, "circle")}


def name(row: Row, styles: Styles) -> str:
    """The name of an SAE in the legend."""
    own = {**row, "k": count(row["k"]), "seed": count(row.get("seed", ""))}
    return sae_name(own, styles, width=bool(row["width"]))


def labels(row: Row) -> dict[str, str]:
    """The labels that the page's filters know."""
    return {name: row[name] for name in ("model", "site", "variant", "k")}


def grouped(rows: Iterable[Row], names: Sequence[str]) -> Iterator[list[Row]]:
    """Rows that agree in these columns, in the order in which they first occur."""
    ordered = list(rows)
    first: dict[tuple[str, ...], int] = {}
    keys = [tuple(row[name] for name in names) for row in ordered]
    for key in keys:
        first.setdefault(key, len(first))
    pairs = sorted(zip(keys, ordered, strict=True), key=lambda pair: first[pair[0]])
    for _, group in groupby(pairs, key=lambda pair: pair[0]):
        yield [row for _, row in group]


def points(rows: Sequence[Row], values: tuple[str, str], spreads: tuple[str, ...]) -> dict[str, Any]:
    """`x` and `y`, and `dx` and `dy` where a point has a standard deviation."""
    found = {name: [number(row[of]) for row in rows] for name, of in zip("xy", values, strict=True)}
    for name, of in zip(("dx", "dy"), spreads, strict=False):
        if any(row[of] for row in rows):
            found[name] = [number(row[of]) for row in rows]
    return found


def number(text: str) -> float | None:
    """A number of a CSV file with six digits; None for an empty field."""
    return float(f"{float(text):.6g}") if text else None


def count(text: str) -> int | None:
    """A whole number of a CSV file; None for an empty field."""
    return int(float(text)) if text else None
