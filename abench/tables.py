"""Tables that a task adds to reports: what they are called, and how they are made from cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskTable:
    """A table of a task's own, which every report with the task shows in all its formats.

    It depends on the cells alone, never on SAEs or data.
    """

    title: str
    """Its heading."""
    make: Callable[..., Any]
    """A function `make(records, styles)` of all cells of the task in a report, with and without a result.
    Returns an `abench.report.Table`, whose heading the report sets, or None if no cell has what it shows;
    `abench.report.table_of` suits most tasks. `styles` are for `abench.report.variant_style`."""
    replaces_headline: bool = False
    """Whether it stands in place of the table of the task's headline metrics. That table is shown all the
    same if a cell has no value, because its notes give the reason."""
    shows_invalid: bool = False
    """Whether it shows scores that do not mean anything; they are marked with the numbers of the notes on
    them."""
    paper: int | None = None
    """The number of the paper's table that it corresponds to. Such tables come first, in the paper's order;
    others follow by task."""
