"""The tables as Markdown, as CSV and as plain text for the terminal."""

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from abench.report.csvfile import as_text
from abench.report.tables import Column, Table, TableCell, TableRow, Tables
from abench.sanitize.printable import one_line

Lines = Iterator[str]


def markdown(tables: Tables) -> str:
    """The tables as GitHub Markdown, aligned so that the source is readable, too."""
    return "\n".join(_markdown(tables)) + "\n"


def plain(tables: Tables, width: int = 110) -> str:
    """The tables as text of at most `width` characters per line; columns that do not fit continue below.

    The best values are marked with a star.
    """
    return "\n".join(_plain(tables, width)) + "\n"


def numbers_csv(table: Table) -> str:
    """A table for a spreadsheet: mean, sd, n, N and the 95 % interval of every metric, unrounded.

    No text becomes a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "site", "k", "variant", "width", "view", *map(as_text, _number_headers(table))])
    for section in table.sections:
        for row in section.rows:
            labels = [section.model, section.site, row.k, row.variant, row.width, row.view]
            writer.writerow([*map(as_text, labels), *(part for cell in row.cells for part in _numbers(cell))])
    return out.getvalue()


def _number_headers(table: Table) -> list[str]:
    names = (f"{column.task_label}.{column.metric}" for column in table.columns)
    return [f"{name} {part}" for name in names for part in ("mean", "sd", "n", "N", "low", "high")]


def _numbers(cell: TableCell) -> tuple[object, ...]:
    counts = (cell.n, cell.of) if cell.of else ("", "")
    return tuple("" if part is None else part for part in (cell.mean, cell.sd, *counts, cell.low, cell.high))


def _markdown(tables: Tables) -> Lines:
    yield f"# {escaped(tables.title)}"
    for table in tables.shown:
        for section in table.sections:
            yield from ("", f"## {escaped(table.section_heading(section))}", "")
            rows = [
                [*map(escaped, table.labels_of(row)), *map(_markdown_cell, row.cells)] for row in section.rows
            ]
            yield from pipes([*table.label_names, *(escaped(c.label) for c in table.columns)], rows)
        yield from _bullets(map(escaped, table.notes))
    numbered = (f"[{n}] {escaped(text)}" for n, text in enumerate(tables.numbered, 1))
    yield from _bullets([*numbered, *map(escaped, tables.general)])


def _bullets(texts: Iterable[str]) -> Lines:
    lines = [f"- {text}" for text in texts]
    yield from ("", *lines) if lines else ()


def _markdown_cell(cell: TableCell) -> str:
    shown = _cell(cell, f"**{cell.text}**" if cell.bold else cell.text, cell.interval_text)
    return shown.replace("|", r"\|")


def _plain_cell(cell: TableCell) -> tuple[str, str]:
    """The text of a cell and its interval, which is on a line of its own."""
    return _cell(cell, f"*{cell.text}" if cell.bold else cell.text), cell.interval_text


def _cell(cell: TableCell, mean: str, interval: str = "") -> str:
    marks = f"[{','.join(map(str, cell.marks))}]" if cell.marks else ""
    spread = f"± {cell.sd_text}" if cell.sd_text else ""
    count = f"({cell.seeds_text})" if cell.seeds_text else ""
    return one_line(" ".join(part for part in (mean, spread, interval, count, marks) if part))


def pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """The lines of a Markdown table; its cells must be escaped."""
    widths = _widths([header, *rows])
    yield _join(header, widths, "| ", " | ", " |")
    rules = ("-" * max(width, 2) for width in widths)
    yield "|" + "|".join(f":{r}-" if i == 1 else f"-{r}:" for i, r in enumerate(rules)) + "|"
    yield from (_join(row, widths, "| ", " | ", " |") for row in rows)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(2, *map(len, column)) for column in zip(*rows, strict=True)]


def _join(row: Sequence[str], widths: Sequence[int], start: str, middle: str, end: str) -> str:
    """One line; the second column (the SAE's name) is left-aligned, all others are right-aligned."""
    pairs = enumerate(zip(row, widths, strict=True))
    return start + middle.join(t.ljust(w) if i == 1 else t.rjust(w) for i, (t, w) in pairs) + end


def escaped(text: str) -> str:
    """Markdown source that shows the text literally, on one line."""
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", one_line(text))


def _plain(tables: Tables, width: int) -> Lines:
    yield from textwrap.wrap(one_line(tables.title), width)
    for table in tables.shown:
        for section in table.sections:
            yield from ("", table.section_heading(section))
            yield from _plain_section(table, section.rows, width)
        yield from _wrapped(table.notes, width)
    numbered = (f"[{n}] {one_line(text)}" for n, text in enumerate(tables.numbered, 1))
    yield from _wrapped([*numbered, *tables.general], width)


def _wrapped(notes: Sequence[str], width: int) -> Lines:
    """The notes after an empty line, with indented continuation lines."""
    yield from ("",) if notes else ()
    for note in notes:
        shown = note.replace("Bold:", "*:")
        # Names with hyphens stay whole, so that what a note says to type can be copied.
        yield from textwrap.wrap(shown, width, subsequent_indent="    ", break_on_hyphens=False)


def _plain_section(table: Table, rows: Sequence[TableRow], width: int) -> Lines:
    # Intervals are below the means, because next to them fewer columns would fit side by side.
    labels = [line for row in rows for line in (table.labels_of(row), [""] * len(table.label_names))]
    label_widths = _widths([table.label_names, *labels])
    columns = [
        [*_heads(c), *(text for row in rows for text in _plain_cell(row.cells[i]))]
        for i, c in enumerate(table.columns)
    ]
    for chunk in _chunks(columns, width - sum(label_widths) - 2 * len(label_widths)):
        widths = [*label_widths, *(max(map(len, column)) for column in chunk)]
        heads = [["" for _ in label_widths], table.label_names]
        left = [*heads, *labels]
        lines = [[*left[i], *(column[i] for column in chunk)] for i in range(len(left))]
        lines = [line for line in lines if any(line[len(label_widths) :])]
        yield ""
        yield from (_join(line, widths, "", "  ", "").rstrip() for line in lines)


def _heads(column: Column) -> tuple[str, str]:
    return column.task_label, column.metric_label


def _chunks(columns: Sequence[Sequence[str]], room: int) -> Iterator[list[Sequence[str]]]:
    """Groups of columns that each fit the available width, with at least one column per group."""
    chunk: list[Sequence[str]] = []
    used = 0
    for column in columns:
        needed = 2 + max(map(len, column))
        if chunk and used + needed > room:
            yield chunk
            chunk, used = [], 0
        chunk.append(column)
        used += needed
    yield chunk
