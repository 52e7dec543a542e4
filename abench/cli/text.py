"""Plain text for terminals and logs: aligned columns, and JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from abench.sanitize.printable import visible


def columns(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Rows aligned under their header, columns two spaces apart; control characters are made visible."""
    padded = [
        _padded(["—" if value is None else str(value) for value in column])
        for column in zip(header, *rows, strict=True)
    ]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def _padded(texts: list[str]) -> list[str]:
    # First search the whole column at once: there may be very many rows, and hardly any has such characters.
    joined = "\n".join(texts)
    if visible(joined) != joined:
        texts = [visible(text) for text in texts]
    width = max(map(len, texts))
    return [text.ljust(width) for text in texts]


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def count(number: int, noun: str) -> str:
    """`1 cell`, `6 cells`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sae_line(labels: Mapping[str, Any]) -> str:
    """`tiny blocks.2.hook_resid_post · topk k=16 width=2048 seed=0`, without labels that the SAE lacks."""
    sizes = (f"{name}={labels[name]}" for name in ("k", "width", "seed") if labels[name] is not None)
    return f"{labels['model']} {labels['site']} · {' '.join((labels['variant'], *sizes))}"
