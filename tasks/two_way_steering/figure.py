"""The figure of two-way steering: share of the pole against strength, one panel per concept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "two_way"
TITLE = "Two-way steering: share of the pole against strength"
CAPTION = (
    "The share of the positive pole among the continuations of the validation stems, for the chosen latent "
    "of each SAE (a line per seed) and for a difference in means (DiM); an end at which no strength was "
    "better than none has no line. Strengths are in units of the residual stream's mean norm; those of the "
    "end with the lower share are negative. Hollow points are beyond the limits on fluency and on "
    "degenerate continuations, so that they could not be chosen."
)
_LABELS = ("model", "site", "variant", "k", "width", "seed", "view")
_DIM = "dim"
_DIM_LOOK: dict[str, Any] = {"color": "#555555", "marker": "X", "linestyle": "--"}
_BEYOND, _FURTHER = "_beyond", "_further"
"""The labels of hollow points and of further seeds' lines, which have no entry in the legend."""
_ACROSS = 4
_PANEL = (2.6, 2.1)
"""Width and height of a panel in inches."""
_HEADING_LETTER, _TITLE_LETTER, _LEGEND_LETTER, _LEGEND_SIGN = 0.09, 0.075, 0.065, 0.5
"""Inches that a letter of the heading, of a panel's title and of the legend, and the sign of an entry take at
most."""

Record = Mapping[str, Any]


def points(records: Sequence[Record]) -> pd.DataFrame:
    """One row per SAE (or DiM), concept and strength; DiM has neither k, width nor seed."""
    import pandas as pd

    rows = [
        row
        for record in records
        if record["status"] == "done" and "two_way" in (record.get("details") or {})
        for row in _rows(record)
    ]
    columns = [*_LABELS, "concept", "strength", "share", "loss", "degenerate", "fluent"]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("k", "width", "seed"), "Int64"))
    # Every SAE's cell contains DiM, which is drawn once.
    return frame.drop_duplicates(ignore_index=True)


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    labels, details = record["labels"], record["details"]["two_way"]
    of_sae = {label: labels[label] for label in _LABELS}
    of_dim = {"model": labels["model"], "site": labels["site"], "variant": _DIM, "view": "native"}
    for concept, methods in details["concepts"].items():
        for of, method in ((of_sae, "both"), (of_dim, "dim")):
            curve = methods[method]["curve"]
            (unsteered,) = (each for each in curve if each["strength"] == 0)
            for each in curve:
                more = each["degenerate"] - unsteered["degenerate"]
                within = "loss" in each and each["loss"] <= details["max_loss"]
                fluent = within and more <= details["max_degenerate"] + 1e-9
                yield of | {"concept": concept} | each | {"fluent": fluent}


def draw(points: pd.DataFrame, heading: str, styles: Any) -> Figure:
    """The figure of one model and site."""
    from matplotlib.figure import Figure

    concepts = list(dict.fromkeys(points["concept"]))
    across = min(_ACROSS, len(concepts))
    down = -(-len(concepts) // across)
    # A data set's owner stands on a line of its own.
    titles = {concept: str(concept).replace("/", "/\n", 1) for concept in concepts}
    longest = max(len(line) for title in titles.values() for line in title.splitlines())
    width = max(0.6 + across * max(_PANEL[0], _TITLE_LETTER * longest), 0.2 + _HEADING_LETTER * len(heading))
    figure = Figure(figsize=(width, 0.9 + down * _PANEL[1]), layout="constrained")
    figure.suptitle(heading, fontsize=11)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flatten()
    for place, (axes, concept) in enumerate(zip(panels, concepts, strict=False)):
        _draw_panel(axes, points[points["concept"] == concept], styles)
        axes.set_title(titles[concept], fontsize=9)
        if place + across >= len(concepts):
            axes.set_xlabel("strength", fontsize=9)
            axes.tick_params(labelbottom=True)
    for axes in panels[len(concepts) :]:
        axes.set_visible(False)
    lines = {
        line.get_label(): line for axes in panels for line in axes.get_lines() if line.get_label()[0] != "_"
    }
    entry = _LEGEND_SIGN + _LEGEND_LETTER * max(map(len, lines))
    fitting = min(4, max(1, int(width / entry)))
    figure.legend(handles=[*lines.values()], loc="outside lower center", ncols=fitting, fontsize=8)
    figure.supylabel("share of the positive pole", fontsize=9)
    return figure


def _draw_panel(axes: Axes, points: pd.DataFrame, styles: Any) -> None:
    names = ["variant", "k", "width", "view"]
    several = {name for name in names[1:] if points.loc[points["variant"] != _DIM, name].nunique() > 1}
    for row, mine in points.groupby(names, sort=False, dropna=False):
        look, label = _look(dict(zip(names, row, strict=True)), several, styles)
        # Not their mean: seeds differ in the ends that they reach, so that it would jump where one joins.
        for _, line in mine.groupby("seed", sort=True, dropna=False):
            axes.plot(line["strength"], line["share"], label=label, markersize=4, linewidth=1.2, **look)
            beyond = line[~line["fluent"].astype(bool)]
            plain = look | {"linestyle": "none", "markerfacecolor": "white"}
            axes.plot(beyond["strength"], beyond["share"], label=_BEYOND, markersize=4, **plain)
            label = _FURTHER
    axes.set_ylim(-0.04, 1.04)
    axes.grid(visible=True, alpha=0.3)


def _look(row: Mapping[str, Any], several: set[str], styles: Any) -> tuple[dict[str, Any], str]:
    from abench.report import variant_style

    if row["variant"] == _DIM:
        return _DIM_LOOK, "DiM"
    style = variant_style(row["variant"], styles)
    more = {"k": f"k = {row['k']}", "width": f"{row['width']} latents", "view": str(row["view"])}
    label = ", ".join([style.title, *(text for name, text in more.items() if name in several)])
    line = ":" if row["view"] == "split" else "-"
    return {"color": style.colour, "marker": style.marker, "linestyle": line}, label
