"""Plain text for terminals and logs: aligned columns, and JSON."""

import json
from collections.abc import Sequence
from typing import Any

import click

from abench.printable import visible


def columns(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Rows aligned under their header, columns two spaces apart; characters that act are made visible."""
    table = [[visible(str(value)) for value in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines)


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def count(number: int, noun: str) -> str:
    """`1 cell`, `6 cells`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
