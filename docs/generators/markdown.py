"""Markdown tables."""

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, in whose cells line breaks are spaces and `|` is escaped; empty without rows."""
    lines = [_line(row) for row in rows]
    return "\n".join([_line(headings), "|" + "---|" * len(headings), *lines]) if lines else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(_escaped(cell).split()) for cell in cells) + " |"


def _escaped(cell: str) -> str:
    """A cell's text; within code Python-Markdown takes `|` for what it is and would show a backslash."""
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in _CODE.split(cell))
