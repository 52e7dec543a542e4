"""Markdown tables."""

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, in whose cells `|` is escaped and line breaks are spaces; empty without rows."""
    lines = [_line(row) for row in rows]
    return "\n".join([_line(headings), "|" + "---|" * len(headings), *lines]) if lines else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
