"""The results table: one model of sections, rows, cells and notes that every renderer reads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple


class RowKey(NamedTuple):
    """What tells the table's rows apart."""

    model: str
    site: str
    k: int
    width: int
    variant: str
    view: str


class ColumnKey(NamedTuple):
    """What tells the table's columns apart."""

    task: str
    task_version: str
    metric: str


@dataclass(frozen=True)
class Column:
    """One headline metric of one task."""

    task: str
    task_version: str
    metric: str
    task_label: str
    """The task's name, with its version where the records hold several."""
    title: str
    description: str
    higher_is_better: bool | None

    @property
    def key(self) -> ColumnKey:
        """What tells this column from the others."""
        return ColumnKey(self.task, self.task_version, self.metric)

    @property
    def arrow(self) -> str:
        """The better direction; empty where neither is."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def label(self) -> str:
        """Task, metric and arrow in one line."""
        return f"{self.task_label} {self.title} {self.arrow}".rstrip()


@dataclass(frozen=True)
class Cell:
    """A mean over seeds, or what stands in its place."""

    mean: float | None = None
    sd: float | None = None
    n: int = 0
    """Seeds with a value."""
    of: int = 0
    """Seeds planned; 0 where the row has no such cell."""
    text: str = ""
    """The mean at its column's precision; n/of where seeds are lacking; — where all are."""
    sd_text: str = ""
    seeds_text: str = ""
    """`n = 2`, where that differs from the row's number of seeds."""
    bold: bool = False
    marks: tuple[int, ...] = ()
    """Numbers of the notes that explain this cell."""


@dataclass(frozen=True)
class Row:
    """One variant at one k, width and view, over its seeds."""

    k: int
    variant: str
    title: str
    """The variant's name in print, with the view where the variant has two."""
    width: int
    view: str
    seeds: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """The rows of one model and site."""

    model: str
    site: str
    rows: tuple[Row, ...]

    @property
    def heading(self) -> str:
        """Model and site in one line."""
        return f"{self.model}, {self.site}"

    def blocks(self) -> list[tuple[Row, ...]]:
        """The rows by k: those that may be compared."""
        return [tuple(rows) for _, rows in groupby(self.rows, key=lambda row: row.k)]


@dataclass(frozen=True)
class Table:
    """Everything the renderers need."""

    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    numbered: tuple[str, ...]
    """Notes on single cells; a cell's marks count from 1."""
    general: tuple[str, ...]
    show_width: bool

    def tasks(self) -> list[tuple[str, int]]:
        """Each task's label with its number of columns, from left to right."""
        labels = groupby(column.task_label for column in self.columns)
        return [(label, len(list(columns))) for label, columns in labels]
