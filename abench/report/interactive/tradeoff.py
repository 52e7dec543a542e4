"""The chart of the trade-off of steering: utility against safety, with the strengths on hover."""

from collections.abc import Sequence

from abench.report.interactive.series import Chart, Row, grouped, labels, look, name, points
from abench.report.style import Styles

HOLLOW_FROM = 50.0
"""Percentage of degenerate replies from which on a point is hollow."""
_TITLES = {"original": "Original", "dim": "DiM"}


def tradeoff_chart(rows: Sequence[Row], styles: Styles) -> Chart:
    """Utility against safety: a series per method, with a gap between negative and positive strengths."""
    series = []
    for mine in grouped(rows, ("method", "k", "width", "seed", "candidate")):
        method = mine[0]["method"]
        ordered = sorted(mine, key=_size)
        other = {"name": _TITLES.get(method), "colour": "#555555", "symbol": "x"}
        own = {"name": name({**mine[0], "variant": method}, styles), **look(method, styles)}
        shown = own if method not in _TITLES else other if method == "dim" else other | {"symbol": "star"}
        series.append(
            {
                **shown,
                "panel": 0,
                "labels": labels({**mine[0], "variant": method}),
                "mode": "lines+markers",
                "gaps": [i for i in range(1, len(ordered)) if _sides(ordered[i - 1 : i + 1])],
                **points(ordered, ("safety", "utility"), ()),
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
