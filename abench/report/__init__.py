"""Reports: records of cells in, tables, figures and an HTML page out. No score is computed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abench.report.build import build_tables
from abench.report.figures import write_figures
from abench.report.frame import COLUMNS, Record, read_tidy, summarise, tidy, write_tidy
from abench.report.latex import latex
from abench.report.page import render_page
from abench.report.plane import write_planes
from abench.report.pole_bars import write_pole_bars
from abench.report.render import markdown, numbers_csv, plain
from abench.report.style import NO_STYLES, Styles, VariantStyle, variant_style
from abench.report.swap import replaced
from abench.report.tables import Tables
from abench.report.task_figure import write_task_figures
from abench.report.tradeoff import write_tradeoffs
from abench.secrets import hidden

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "Record",
    "Report",
    "VariantStyle",
    "read_tidy",
    "summarise",
    "tidy",
    "variant_style",
    "write_report",
]


@dataclass(frozen=True)
class Report:
    """A report that has been written."""

    folder: Path
    files: tuple[Path, ...]
    tables: Tables

    @property
    def index(self) -> Path:
        """The HTML page."""
        return self.folder / "index.html"

    def text(self, width: int = 110) -> str:
        """Its tables for printing: at most `width` characters a line, best values starred."""
        return plain(self.tables, width)


def write_report(
    records: Iterable[Record],
    curves: Mapping[str, pd.DataFrame],
    folder: Path,
    *,
    title: str,
    footnotes: Sequence[str] = (),
    styles: Styles = NO_STYLES,
) -> Report:
    """Write data.csv, table.{md,csv,tex}, figures as {png,pdf,csv} and index.html into `folder`.

    `curves` gives training curves by `sae_key`: frames with the columns step and mse (mean over tokens of
    ‖x − x̂‖², in the scaled input space). `footnotes` follow the table's own notes. `styles` replaces the
    title, colour and marker of single variants. A report that is already there is replaced as a whole or
    not at all. Raises UserError if there are no records or `folder` holds something else than a report.
    """
    cells = list(records)
    tables = build_tables(cells, title=title, footnotes=footnotes, styles=styles)
    with replaced(folder) as fresh:
        write_tidy(tidy(cells), fresh / "data.csv")
        _write(fresh / "table.md", markdown(tables))
        _write(fresh / "table.csv", numbers_csv(tables.wide))
        _write(fresh / "table.tex", latex(tables))
        figures = {
            "tasks": write_task_figures(tables.paper, fresh, styles) if tables.paper else [],
            "reconstruction": write_figures(cells, curves, fresh, styles),
            "planes": write_planes(cells, fresh, styles),
            "poles": write_pole_bars(cells, fresh, styles),
            "tradeoffs": write_tradeoffs(cells, fresh, styles),
        }
        _write(fresh / "index.html", render_page(tables, cells, figures, styles))
        names = sorted(path.name for path in fresh.iterdir())
    return Report(folder, tuple(folder / name for name in names), tables)


def _write(path: Path, text: str) -> None:
    path.write_text(hidden(text), encoding="utf-8", newline="\n")
