"""The report as one self-contained HTML page."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.report.about import About
from abench.report.beside_files import HEADER, HEADING, cells, notes
from abench.report.beside_paper import Beside
from abench.report.drawings import DPI
from abench.report.frame import Record
from abench.report.interactive import Contexts, interactive_parts
from abench.report.notes import limited_note
from abench.report.own_figures import OwnFigure
from abench.report.paper import failings
from abench.report.shortfalls import causes, causes_sentence, unmet_preconditions
from abench.report.style import NO_STYLES, Styles
from abench.report.tables import TableCell, Tables

if TYPE_CHECKING:
    from markupsafe import Markup

    from abench.report.comparisons import TextTable

STATUSES = ("done", "failed", "skipped", "missing")


@dataclass(frozen=True)
class PageParts:
    """What a page shows in addition to the tables and figures, where there is some."""

    about: About | None = None
    beside: Sequence[Beside] = ()
    """The paper's numbers beside ours."""
    comparisons: "Sequence[TextTable]" = ()
    contexts: Mapping[str, Contexts] | None = None
    """`sae_key` -> contexts of latents, for the latent browser; None leaves it out."""
    own: Sequence[OwnFigure] = ()
    """The figures of tasks' own."""
    examples: Sequence[Mapping[str, Any]] = ()
    """Latents in their strongest contexts, by SAE."""
    replies: Sequence[Mapping[str, Any]] = ()
    """Replies of steered models, by method."""


_NOTHING_MORE = PageParts()


def render_page(
    tables: Tables,
    records: Sequence[Record],
    figures: Mapping[str, Sequence[Path]],
    styles: Styles = NO_STYLES,
    more: PageParts = _NOTHING_MORE,
) -> str:
    """The HTML page: the run, tables, notes, figures (embedded PNG files), cells without values, provenance.

    `figures` maps a kind to PNG files: `tasks`, `reconstruction`, `fronts` (loss recovered over L0). A figure
    of a task's own follows the first table of this task alone, or else all tables. Everything that comes
    from records is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("abench.report", "templates")
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    template = Environment(loader=loader, autoescape=True, **options).get_template("report.html.j2")
    lacking = causes(records, styles)
    under, apart = _placed(more.own, tables)
    charted = [(file, each.chart) for each in more.own if each.chart for file in each.files]
    return template.render(
        tables=tables,
        value=_value,
        figures={kind: _embedded(files) for kind, files in figures.items()},
        own_under=under,
        own_apart=apart,
        causes=lacking,
        causes_sentence=causes_sentence(lacking),
        unmet=unmet_preconditions(records, styles),
        comparisons=more.comparisons,
        examples=more.examples,
        replies=more.replies,
        counts=status_counts(records),
        limited=limited_note(records),
        interactive=interactive_parts(records, figures, charted, styles, more.contexts),
        provenance=provenance(records),
        about=more.about,
        beside=beside_rows(more.beside, styles),
        failings=failings(tables.paper.columns) if tables.paper else (),
    )


def _value(cell: TableCell) -> "Markup":
    """The content of a table cell. Not a template macro, because large reports have tens of thousands."""
    from markupsafe import Markup, escape

    parts = [f"<strong>{escape(cell.text)}</strong>" if cell.bold else str(escape(cell.text))]
    parts += [f' <span class="sd">± {escape(cell.sd_text)}</span>'] if cell.sd_text else []
    parts += [f' <span class="sd">{escape(cell.interval_text)}</span>'] if cell.interval_text else []
    parts += [f' <span class="n">({escape(cell.seeds_text)})</span>'] if cell.seeds_text else []
    if cell.marks:
        links = ",".join(f'<a href="#note-{n}">{n}</a>' for n in cell.marks)
        parts.append(f"<sup>{links}</sup>")
    return Markup("".join(parts))


def _placed(
    own: Sequence[OwnFigure], tables: Tables
) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
    """The figures of tasks' own that follow each of the shown tables, and those of tasks without one."""
    alone = [{column.task for column in table.columns} for table in tables.shown]
    under: list[list[dict[str, Any]]] = [[] for _ in alone]
    apart: list[dict[str, Any]] = []
    for figure in own:
        places = [place for place, tasks in enumerate(alone) if tasks == {figure.task}]
        shown = {
            "title": figure.title,
            "caption": figure.caption,
            "charted": figure.chart is not None,
            "images": _embedded(figure.files),
        }
        (under[places[0]] if places else apart).append(shown)
    return under, apart


def beside_rows(rows: Sequence[Beside], styles: Styles = NO_STYLES) -> dict[str, Any] | None:
    """Heading, header, rows and notes of the paper's numbers beside ours; None if there are none."""
    if not rows:
        return None
    shown = [cells(row, styles) for row in rows]
    return {"heading": HEADING, "header": HEADER, "rows": shown, "notes": notes(rows)}


def status_counts(records: Sequence[Record]) -> dict[str, int]:
    """Status -> number of cells, for statuses that occur."""
    counts = Counter(record["status"] for record in records)
    return {status: counts[status] for status in STATUSES if counts[status]}


def provenance(records: Sequence[Record]) -> dict[str, str]:
    """Where and with which packages the values were computed, without duplicates."""
    origins = [record["provenance"] or {} for record in records]
    facts = {
        "Computing time of all cells": duration(sum(float(origin.get("seconds") or 0) for origin in origins)),
        "Devices": _distinct(origins, "device"),
        "Hosts": _distinct(origins, "host"),
        "Packages": _packages(origins),
    }
    return {name: text for name, text in facts.items() if text}


def duration(seconds: float) -> str:
    """Seconds in a readable form: `1 h 02 min`, `3 min 20 s`, `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _embedded(figures: Sequence[Path]) -> list[tuple[str, str, int]]:
    """Name, content and width of each figure; CSS pixels are 1/96 inch, so none is enlarged."""
    found = []
    for path in figures:
        content = path.read_bytes()
        width = int.from_bytes(content[_PNG_WIDTH]) * 96 // DPI
        found.append((path.stem, base64.b64encode(content).decode(), width))
    return found


_PNG_WIDTH = slice(16, 20)
"""Bytes of a PNG file that hold its width in pixels."""


def _distinct(origins: Sequence[Mapping[str, Any]], name: str) -> str:
    return ", ".join(sorted({str(origin[name]) for origin in origins if origin.get(name)}))


def _packages(origins: Sequence[Mapping[str, Any]]) -> str:
    versions: dict[str, set[str]] = {}
    # Cells computed with the same packages mostly share one mapping, which is processed once.
    for packages in {id(each): each for origin in origins if (each := origin.get("packages"))}.values():
        for package, version in packages.items():
            versions.setdefault(package, set()).add(str(version))
    return ", ".join(f"{package} {' and '.join(sorted(versions[package]))}" for package in sorted(versions))
