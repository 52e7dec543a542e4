"""The tables as LaTeX: `table` environments that need only the package booktabs."""

import re
from collections.abc import Iterator
from itertools import accumulate

from abench.config import ReportSpec
from abench.report.tables import Table, TableCell, TableRow, Tables
from abench.sanitize.printable import one_line

# Pairs of a character and its LaTeX source.
_SYMBOLS = r"""
    \ \textbackslash{} ~ \textasciitilde{} ^ \textasciicircum{} < $<$ > $>$ | $|$ " '' ’ ' ‘ ` “ `` ” ''
    … \dots{} – \textendash{} — \textemdash{} − $-$ ± $\pm$ × $\times$ · $\cdot$ ≤ $\leq$ ≥ $\geq$ ² $^2$
    → $\to$ ↑ $\uparrow$ ↓ $\downarrow$ ‖ $\|$ ½ $\frac12$ † $\dagger$ Δ $\Delta$ λ $\lambda$ σ $\sigma$
    µ $\mu$ μ $\mu$
"""
_PAIRS = iter(_SYMBOLS.split())
_NUMBERS = re.compile(r"[A-Za-z0-9 .,=+\-−†/()\[\]]*")
"""Texts that stand in formulas as they are."""
_SPECIAL = dict(zip(_PAIRS, _PAIRS, strict=True)) | {char: f"\\{char}" for char in "&%$#_{}"}


def latex(tables: Tables, layout: ReportSpec = ReportSpec()) -> str:  # noqa: B008 - frozen
    """The tables for a paper; each has its own notes, so that it can be used by itself.

    `layout` sets their caption and label.
    """
    title = tables.title if layout.caption is None else layout.caption
    lines = (
        line
        for number, table in enumerate(tables.shown, 1)
        for line in ("", *_lines(table, tables, title, _label(layout.label, number)))
    )
    return "\n".join(["% Needs \\usepackage{booktabs}.", *lines]) + "\n"


def escape(text: str) -> str:
    """LaTeX source that prints the text literally; characters that pdfLaTeX lacks become code points."""
    # Two hyphens in a row would be printed as one dash.
    return "".join(_character(char) for char in one_line(text)).replace("--", "-{}-")


def _character(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    # pdfLaTeX supports the accented letters of Latin-1; most other characters are errors.
    return char if char.isascii() or re.match("[À-ÖØ-öø-ÿ]", char) else f"\\texttt{{U+{ord(char):04X}}}"


def _label(label: str | None, number: int) -> str | None:
    """The label of the nth table; the first has the label itself."""
    return label if label is None or number == 1 else f"{label}-{number}"


def _lines(table: Table, tables: Tables, title: str, label: str | None) -> Iterator[str]:
    labels = len(table.label_names)
    # A description ends with a full stop, which must not stand before the colon.
    caption = ": ".join(text for text in (title.rstrip(". "), table.heading) if text)
    yield from (r"\begin{table}", r"\centering", r"\small", rf"\caption{{{escape(caption)}}}")
    if label is not None:
        yield rf"\label{{{label}}}"
    yield rf"\begin{{tabular}}{{{'rl' + 'r' * (labels - 2)}{'r' * len(table.columns)}}}"
    yield r"\toprule"
    yield from _header(table, labels)
    for section in table.sections:
        yield from (
            r"\midrule",
            rf"\multicolumn{{{labels + len(table.columns)}}}{{l}}{{{_heading(section.heading)}}} \\",
        )
        for block in section.blocks():
            yield r"\addlinespace"
            yield from (line for row in block for line in _row(row, table))
    yield from (r"\bottomrule", r"\end{tabular}")
    yield from _notes(table, tables)
    yield r"\end{table}"


def _heading(text: str) -> str:
    return rf"\textit{{{escape(text)}}}"


def _header(table: Table, labels: int) -> Iterator[str]:
    """Two header lines, tasks above their metrics; one line if tasks are not named."""
    if tasks := table.tasks():
        spans = (rf"\multicolumn{{{n}}}{{c}}{{{escape(task)}}}" for task, n in tasks)
        yield " & ".join([*[""] * labels, *spans]) + r" \\"
        starts = accumulate((n for _, n in tasks), initial=labels + 1)
        yield " ".join(rf"\cmidrule(lr){{{s}-{s + n - 1}}}" for s, (_, n) in zip(starts, tasks, strict=False))
    names = ["$k$", *table.label_names[1:]]
    yield " & ".join([*names, *(escape(column.metric_label) for column in table.columns)]) + r" \\"


def _row(row: TableRow, table: Table) -> Iterator[str]:
    """The row, and below it the intervals, which would make the table too wide next to the means."""
    labels = table.labels_of(row)
    yield " & ".join([*map(escape, labels), *map(_cell, row.cells)]) + r" \\"
    if any(cell.interval_text for cell in row.cells):
        yield " & ".join([*[""] * len(labels), *map(_interval, row.cells)]) + r" \\"


def _interval(cell: TableCell) -> str:
    # Without braces, a row of LaTeX that begins with a bracket would be read as an option of the one before.
    text = cell.interval_text
    shown = f"${text}$" if _NUMBERS.fullmatch(text) else escape(text)
    return rf"{{\scriptsize {shown}}}" if text else ""


def _cell(cell: TableCell) -> str:
    marks = rf"\textsuperscript{{{','.join(map(str, cell.marks))}}}" if cell.marks else ""
    count = f" ({cell.seeds_text})" if cell.seeds_text else ""
    texts = [text for text in (cell.text, cell.sd_text) if text]
    if cell.mean is None or not all(map(_NUMBERS.fullmatch, (*texts, cell.seeds_text))):
        return escape(" ± ".join(texts)) + marks
    number, _, interval = cell.text.partition(" ")
    mean = rf"\mathbf{{{number}}}" if cell.bold else number
    spread = rf" \pm {cell.sd_text}" if cell.sd_text else ""
    # Outside of the formula, in which the space before the interval would vanish.
    return f"${mean}{spread}${f' {interval}' if interval else ''}{count}{marks}"


def _notes(table: Table, tables: Tables) -> Iterator[str]:
    marks = sorted({mark for cell in table.cells() for mark in cell.marks})
    numbered = [rf"\textsuperscript{{{i}}} {escape(tables.numbered[i - 1])}" for i in marks]
    notes = [*numbered, *map(escape, (*table.notes, *tables.general))]
    if notes:
        yield from (r"", r"\medskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright")
        yield " \\par\n".join(notes)
        yield r"\end{minipage}"
