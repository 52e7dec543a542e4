"""Reports: tables, figures and an HTML page from records of cells. No scores are computed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.config import ReportSpec
from abench.report.about import About, write_about
from abench.report.attempts import attempt_readable
from abench.report.beside_files import as_csv, as_latex, as_markdown
from abench.report.beside_paper import beside_paper
from abench.report.bidirectionality import POLES_TABLE
from abench.report.build import build_tables
from abench.report.comparisons import TextTable, compare, data_frame, markdown_tables, names_of, text_tables
from abench.report.csvfile import write_frame
from abench.report.curves import Curve
from abench.report.document import latex_document
from abench.report.drawings import Drawings
from abench.report.figures import write_figures
from abench.report.frame import COLUMNS, Record, read_tidy, summarise, tidy, write_tidy
from abench.report.front_figure import write_fronts
from abench.report.interactive import Contexts
from abench.report.interactive.series import line_chart
from abench.report.latex import latex
from abench.report.losses import check_losses
from abench.report.manifest import Manifest, SpecOf, manifest_of, sampled_specs, write_manifest
from abench.report.own import Tasks, installed_tasks
from abench.report.own_figures import own_figures, points_of
from abench.report.page import PageParts, render_page
from abench.report.pairs import baseline_in
from abench.report.plane import PLANE
from abench.report.pole_bars import POLE_SHARES
from abench.report.render import markdown, numbers_csv, plain
from abench.report.replies import steered_replies
from abench.report.rows import table_of
from abench.report.safety import SAFETY_TABLE
from abench.report.shading import examples
from abench.report.sound import sound_records
from abench.report.style import NO_STYLES, Styles, VariantStyle, variant_style
from abench.report.swap import replaced
from abench.report.tables import Column, Section, Table, TableCell, TableRow, Tables
from abench.report.task_figure import write_task_figures
from abench.report.tradeoff import TRADEOFF
from abench.report.two_way import TWO_WAY_TABLE
from abench.sanitize.printable import visible
from abench.storage.files import write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "PLANE",
    "POLES_TABLE",
    "POLE_SHARES",
    "SAFETY_TABLE",
    "TRADEOFF",
    "TWO_WAY_TABLE",
    "Column",
    "PreparedReport",
    "Record",
    "Report",
    "Section",
    "Table",
    "TableCell",
    "TableRow",
    "VariantStyle",
    "line_chart",
    "points_of",
    "prepare_report",
    "read_tidy",
    "summarise",
    "table_of",
    "tidy",
    "variant_style",
    "write_prepared",
    "write_report",
]


@dataclass(frozen=True)
class Report:
    """A report that has been written."""

    folder: Path
    files: tuple[Path, ...]
    tables: Tables
    kept: tuple[str, ...] = ()
    """Sentences about files of the old report that were changed after it wrote them and are kept."""

    @property
    def index(self) -> Path:
        """The HTML page."""
        return self.folder / "index.html"

    def text(self, width: int = 110) -> str:
        """The tables as plain text, at most `width` characters per line, best values marked with a star."""
        return plain(self.tables, width)


@dataclass(frozen=True)
class PreparedReport:
    """A report whose tables are built but not yet written."""

    records: Sequence[Record]
    frame: pd.DataFrame
    """`tidy` of the records."""
    summary: pd.DataFrame
    """`summarise` of the frame."""
    tables: Tables
    styles: Styles
    about: About | None = None
    """The run of the report, if it is known."""
    tasks: Tasks = field(default_factory=dict)
    """The tasks by name, for tables, notes and figures of their own."""

    def text(self, width: int = 110) -> str:
        """The tables as plain text, at most `width` characters per line, best values marked with a star."""
        return plain(self.tables, width)


def write_report(
    records: Iterable[Record],
    curves: Mapping[str, Curve],
    folder: Path | str,
    *,
    title: str,
    footnotes: Sequence[str] = (),
    styles: Styles = NO_STYLES,
) -> Report:
    """Write data.csv, comparisons.csv, table.{md,csv,tex}, figures as {png,pdf,csv} and index.html.

    `curves` maps `sae_key` to a training curve: the columns step and mse (mean over tokens of ‖x − x̂‖², in
    the scaled input space), as a data frame or a mapping. `footnotes` follow the tables' own notes. `styles`
    overrides the title, colour and marker of individual variants. An existing report is replaced as a whole
    or not at all; files that no report wrote, or that were changed since, are carried over. report.json lists
    the files of the report. Raises UserError if there are no records, or if `folder` holds something other
    than a report or a report with values that this one lacks; OSError if it cannot be written.
    """
    return write_prepared(
        prepare_report(records, title=title, footnotes=footnotes, styles=styles), curves, Path(folder)
    )


def prepare_report(
    records: Iterable[Record],
    *,
    title: str,
    footnotes: Sequence[str] = (),
    styles: Styles = NO_STYLES,
    about: About | None = None,
    tasks: Tasks | None = None,
) -> PreparedReport:
    """Build the tables of `write_report` without writing. Raises UserError if there are no records.

    `about` describes the run that the records belong to, and how its report looks. `tasks` are the tasks by
    name, for tables, notes and figures of their own (default: the installed ones).
    """
    cells = sound_records(records)
    frame = tidy(cells)
    summary = summarise(frame)
    tasks = installed_tasks() if tasks is None else tasks
    tables = build_tables(
        cells,
        title=visible(title),
        footnotes=list(map(visible, footnotes)),
        styles=styles,
        summary=summary,
        frame=frame,
        metrics=about.metrics if about else None,
        tasks=tasks,
    )
    return PreparedReport(cells, frame, summary, tables, styles, about, tasks)


def write_prepared(
    prepared: PreparedReport,
    curves: Mapping[str, Curve],
    folder: Path,
    *,
    spec_of: SpecOf | None = None,
    contexts: Mapping[str, Contexts] | None = None,
) -> Report:
    """Write a prepared report, as `write_report` does and with the same errors.

    `spec_of` returns the spec for a cell's key (default: the record's spec). `contexts` maps `sae_key` to
    contexts of latents for the page's latent browser; None leaves it out.
    """
    cells, tables, styles, about = prepared.records, prepared.tables, prepared.styles, prepared.about
    layout = about.layout if about else ReportSpec()
    specs = spec_of or {str(cell["key"]): cell["spec"] for cell in cells if cell.get("spec")}.get

    def check(old: Manifest | None) -> None:
        check_losses(folder, old, cells, specs)

    with replaced(folder, check) as draft:
        drawings = Drawings(draft.folder, folder, draft.old, size=layout.figure_size)
        compared, fronts = _comparisons(prepared, drawings)
        figures = _figures(prepared, curves, drawings, layout) | fronts
        own, problems = own_figures(cells, prepared.tasks, drawings, styles)
        parts, faults = _from_details(prepared)
        tables = replace(tables, general=(*tables.general, *problems, *faults))
        write_tidy(prepared.frame, draft.folder / "data.csv")
        write_text(draft.folder / "table.md", markdown(tables) + markdown_tables(compared))
        write_text(draft.folder / "table.csv", numbers_csv(tables.wide))
        write_text(draft.folder / "table.tex", latex(tables, layout))
        if parts.beside:
            write_text(draft.folder / "paper.csv", as_csv(parts.beside))
            write_text(draft.folder / "paper.md", as_markdown(parts.beside, styles))
            write_text(draft.folder / "paper.tex", as_latex(parts.beside, styles, layout.label))
        tex = ["table.tex", *(["paper.tex"] if parts.beside else [])]
        drawn_files = [file for files in (*figures.values(), *(each.files for each in own)) for file in files]
        write_text(draft.folder / "report.tex", latex_document(tables.title, tex, drawn_files))
        more = replace(parts, comparisons=compared, contexts=contexts, own=own)
        write_text(draft.folder / "index.html", render_page(tables, cells, figures, styles, more))
        if about is not None:
            write_about(about, cells, sampled_specs(cells, specs), draft.folder)
        write_manifest(manifest_of(draft.folder, cells, specs, drawings.inputs), draft.folder)
        names = sorted(path.name for path in draft.folder.iterdir())
    return Report(folder, tuple(folder / name for name in names), tables, tuple(draft.kept))


def _from_details(prepared: PreparedReport) -> tuple[PageParts, list[str]]:
    """The parts of the page that are read from details of cells, and a sentence for each fault in these."""
    cells, about, styles = prepared.records, prepared.about, prepared.styles
    nothing: list[Any] = []
    beside, no_beside = attempt_readable(
        "The comparison with the paper",
        lambda some: [] if about and about.metrics else beside_paper(prepared.summary, some),
        cells,
        nothing,
    )
    latents, no_latents = attempt_readable(
        "The contexts of latents", partial(examples, styles=styles), cells, nothing
    )
    replies, no_replies = attempt_readable(
        "The replies", partial(steered_replies, styles=styles), cells, nothing
    )
    faults = [fault for fault in (no_beside, no_latents, no_replies) if fault is not None]
    return PageParts(about, beside, examples=latents, replies=replies), faults


def _figures(
    prepared: PreparedReport, curves: Mapping[str, Curve], drawings: Drawings, layout: ReportSpec
) -> dict[str, list[Path]]:
    """The figures that do not belong to a single task, by kind."""
    cells, paper, styles = prepared.records, prepared.tables.paper, prepared.styles
    return {
        "tasks": write_task_figures(paper, drawings, styles) if paper else [],
        "reconstruction": write_figures(cells, curves, drawings, styles, prepared.summary, layout.panels),
    }


def _comparisons(
    prepared: PreparedReport, drawings: Drawings
) -> tuple[list[TextTable], dict[str, list[Path]]]:
    """The tables of comparisons with the usual baseline and the figures; none if there is one variant."""
    cells, styles = prepared.records, prepared.styles
    if len({cell["labels"]["variant"] for cell in cells}) < 2:
        return [], {"fronts": []}
    found = compare(cells, baseline_in(cells, None), styles)
    if found.all():
        write_frame(data_frame(found.all()), drawings.folder / "comparisons.csv")
    fronts = write_fronts(found.front, drawings, styles)
    return text_tables(found, names_of(cells), styles), {"fronts": fronts}
