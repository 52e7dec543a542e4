"""The results tables: a model of sections, rows, cells and notes that all renderers share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from abench.settings import settings_text


class RowKey(NamedTuple):
    """The labels that identify a row of a table."""

    model: str
    site: str
    k: int
    width: int
    variant: str
    view: str


class ColumnKey(NamedTuple):
    """The labels that identify a column of a table."""

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
    """The task's name, with its version if the records have several; empty if the heading contains it."""
    title: str
    description: str
    higher_is_better: bool | None
    """Direction of the value shown; the opposite of the declared one if 1 − score is shown."""
    complement: bool = False
    """Whether 1 − score is shown instead of the score."""

    @classmethod
    def own(
        cls,
        metric: str,
        title: str,
        description: str = "",
        higher_is_better: bool | None = None,
        *,
        group: str = "",
    ) -> Column:
        """A column of a task's own table (`abench.TaskTable`); `group` stands above adjacent columns.

        If `metric` is a metric of the task, notes on its scores that do not mean anything apply to it.
        """
        return cls("", "", metric, group, title, description, higher_is_better)

    @property
    def key(self) -> ColumnKey:
        """The key of this column."""
        return ColumnKey(self.task, self.task_version, self.metric)

    @property
    def arrow(self) -> str:
        """An arrow in the better direction; empty if neither is better."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def metric_label(self) -> str:
        """Metric and arrow on one line."""
        return f"{self.title} {self.arrow}".strip()

    @property
    def label(self) -> str:
        """Task, metric and arrow on one line."""
        return f"{self.task_label} {self.metric_label}".strip()


@dataclass(frozen=True)
class TableCell:
    """A mean over seeds, or the text in its place."""

    mean: float | None = None
    sd: float | None = None
    n: int = 0
    """Number of seeds with a value."""
    of: int = 0
    """Number of planned seeds; 0 if the row has no such cell."""
    text: str = ""
    """The mean at its column's precision; n/of if seeds are missing; — if all are."""
    sd_text: str = ""
    low: float | None = None
    high: float | None = None
    """The 95 % interval of the mean, from `low` to `high`; None if there is too little to know it."""
    interval_text: str = ""
    """The interval at the mean's precision, in brackets."""
    seeds_text: str = ""
    """E.g. `n = 2`, if that differs from the row's number of seeds."""
    bold: bool = False
    marks: tuple[int, ...] = ()
    """Numbers of the notes that explain this cell."""


@dataclass(frozen=True)
class TableRow:
    """One variant at one k, width and view, over its seeds; or the paper's numbers for a variant."""

    k: int | None
    """None, like width and seeds, for a row of the paper's numbers."""
    variant: str
    title: str
    """The variant's title, with the view if the variant has two."""
    width: int | None
    view: str
    seeds: int | None
    cells: tuple[TableCell, ...]

    @property
    def settings(self) -> str:
        """The settings that tell rows of one variant apart, e.g. `ridge=0.1`; empty if there are none."""
        return settings_text(self.variant)

    def labels(self, *, show_width: bool, show_settings: bool = False) -> list[str]:
        """The labels before the cells: k, title, settings and width (if shown), seeds."""
        numbers = (self.k, *([self.width] if show_width else []), self.seeds)
        k, *others = ("" if value is None else str(value) for value in numbers)
        return [k, self.title, *([self.settings] if show_settings else []), *others]


@dataclass(frozen=True)
class Section:
    """The rows of one model and site."""

    model: str
    site: str
    rows: tuple[TableRow, ...]

    @property
    def heading(self) -> str:
        """Model and site on one line."""
        return f"{self.model}, {self.site}"

    def blocks(self) -> list[tuple[TableRow, ...]]:
        """The rows grouped by k; only rows of one group are comparable."""
        return [tuple(rows) for _, rows in groupby(self.rows, key=lambda row: row.k)]


@dataclass(frozen=True)
class Table:
    """Columns, and the rows that have a cell in one of them."""

    heading: str
    """Distinguishes it from other tables; empty if there are none."""
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    """Notes on this table, in addition to those on all tables."""

    @cached_property
    def show_width(self) -> bool:
        """Whether rows differ in width, so that it must be shown."""
        return len({row.width for row in self.rows() if row.width is not None}) > 1

    @cached_property
    def show_settings(self) -> bool:
        """Whether rows have settings, which then have a column."""
        return any(row.settings for row in self.rows())

    @property
    def label_names(self) -> list[str]:
        """The names of the labels before the cells."""
        shown = (("settings", self.show_settings), ("latents", self.show_width))
        return ["k", "SAE", *(name for name, is_shown in shown if is_shown), "seeds"]

    def labels_of(self, row: TableRow) -> list[str]:
        """The labels of a row, one per name in `label_names`."""
        return row.labels(show_width=self.show_width, show_settings=self.show_settings)

    def section_heading(self, section: Section) -> str:
        """The section's heading, after the table's heading if there are several tables."""
        return f"{self.heading}: {section.heading}" if self.heading else section.heading

    def rows(self) -> list[TableRow]:
        """The rows of all sections."""
        return [row for section in self.sections for row in section.rows]

    def cells(self) -> list[TableCell]:
        """The cells of all rows."""
        return [cell for row in self.rows() for cell in row.cells]

    def tasks(self) -> list[tuple[str, int]]:
        """(task label, number of columns) pairs from left to right; empty if no column has a task label."""
        labels = groupby(column.task_label for column in self.columns)
        counted = [(label, len(list(columns))) for label, columns in labels]
        return counted if any(label for label, _ in counted) else []


@dataclass(frozen=True)
class Tables:
    """Everything the renderers need."""

    title: str
    paper: Table | None
    """The paper's table of tasks, if the run has one of its tasks."""
    tasks: tuple[Table, ...]
    """The headline metrics, one table per task."""
    wide: Table
    """The headline metrics of all tasks side by side."""
    numbered: tuple[str, ...]
    """Notes on single cells; cells' marks refer to them, counted from 1."""
    general: tuple[str, ...]
    """Notes on all tables."""
    own: tuple[Table, ...] = ()
    """The tables of tasks' own (`abench.TaskTable`)."""

    @property
    def shown(self) -> tuple[Table, ...]:
        """The tables in reading order."""
        return (*((self.paper,) if self.paper is not None else ()), *self.own, *self.tasks)
