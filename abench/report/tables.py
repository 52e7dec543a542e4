"""The results tables: one model of sections, rows, cells and notes that every renderer reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple


class RowKey(NamedTuple):
    """What tells a table's rows apart."""

    model: str
    site: str
    k: int
    width: int
    variant: str
    view: str


class ColumnKey(NamedTuple):
    """What tells a table's columns apart."""

    task: str
    task_version: str
    metric: str


@dataclass(frozen=True)
class Column:
    """One metric of one task."""

    task: str
    task_version: str
    metric: str
    task_label: str
    """The task's name, with its version where the records hold several; empty where the heading says it."""
    title: str
    description: str
    higher_is_better: bool | None
    """Of what is shown: the other way round than declared where that is 1 − score."""
    complement: bool = False
    """Whether 1 − score is shown instead of the score."""

    @property
    def key(self) -> ColumnKey:
        """What tells this column from the others."""
        return ColumnKey(self.task, self.task_version, self.metric)

    @property
    def arrow(self) -> str:
        """The better direction; empty where neither is."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def metric_label(self) -> str:
        """Metric and arrow in one line."""
        return f"{self.title} {self.arrow}".strip()

    @property
    def label(self) -> str:
        """Task, metric and arrow in one line."""
        return f"{self.task_label} {self.metric_label}".strip()


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
    """One variant at one k, width and view, over its seeds; or what the paper prints for a variant."""

    k: int | None
    """None, like width and seeds, where the row is the paper's."""
    variant: str
    title: str
    """The variant's name in print, with the view where the variant has two."""
    width: int | None
    view: str
    seeds: int | None
    cells: tuple[Cell, ...]

    def labels(self, *, show_width: bool) -> list[str]:
        """What stands before the cells: k, title, width where it is shown, seeds."""
        numbers = (self.k, *([self.width] if show_width else []), self.seeds)
        k, *others = ("" if value is None else str(value) for value in numbers)
        return [k, self.title, *others]


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
    """Columns, and the rows that have a cell in one of them."""

    heading: str
    """What sets it apart from the other tables; empty where there is no other."""
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    """How to read this table, beside what holds for all."""

    @cached_property
    def show_width(self) -> bool:
        """Whether the widths differ, and so tell rows apart."""
        return len({row.width for row in self.rows() if row.width is not None}) > 1

    def section_heading(self, section: Section) -> str:
        """Which table, where there are several, and which of its sections."""
        return f"{self.heading}: {section.heading}" if self.heading else section.heading

    def rows(self) -> list[Row]:
        """The rows of all sections."""
        return [row for section in self.sections for row in section.rows]

    def cells(self) -> list[Cell]:
        """The cells of all rows."""
        return [cell for row in self.rows() for cell in row.cells]

    def tasks(self) -> list[tuple[str, int]]:
        """Each task's label with its number of columns, from left to right; nothing where none has one."""
        labels = groupby(column.task_label for column in self.columns)
        counted = [(label, len(list(columns))) for label, columns in labels]
        return counted if any(label for label, _ in counted) else []


@dataclass(frozen=True)
class Tables:
    """Everything the renderers need."""

    title: str
    paper: Table | None
    """The paper's table of tasks, if a task that stands there was asked for."""
    tasks: tuple[Table, ...]
    """The headline metrics, a table a task."""
    wide: Table
    """The headline metrics of all tasks side by side."""
    numbered: tuple[str, ...]
    """Notes on single cells; a cell's marks count from 1."""
    general: tuple[str, ...]
    steering: Table | None = None
    """The paper's table of safety and utility, if SAEs were steered with."""
    poles: Table | None = None
    """The paper's table of bidirectional latents, if latents were judged."""

    @property
    def shown(self) -> tuple[Table, ...]:
        """The tables in the order in which they are read."""
        first = (table for table in (self.paper, self.steering, self.poles) if table is not None)
        return (*first, *self.tasks)
