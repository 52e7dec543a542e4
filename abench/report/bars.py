"""The data of the tasks figure: one row per bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abench.report.paper import printed
from abench.report.tables import Column, Section, Table, TableCell, TableRow

if TYPE_CHECKING:
    import pandas as pd

BAR = ("variant", "width", "view")
"""The columns that distinguish the bars of one panel and task."""
COLUMNS = (
    *("model", "site", "k", *BAR, "task", "task_version", "metric", "shown", "higher_is_better"),
    *("mean", "sd", "n", "N", "paper"),
)
_NUMBERS = {"k": "Int64", "mean": float, "sd": float, "paper": float, "higher_is_better": "boolean"}


def task_bars(table: Table) -> pd.DataFrame:
    """One row per bar of the paper's table of tasks, in the table's order.

    `shown` states whether mean and sd are those of the score or of 1 − score; `higher_is_better` refers to
    the value shown. Mean and sd are absent if a seed has no value; sd also if there is only one seed (n of
    N). `paper` is the paper's number for the same model, site, variant and task, in the native view.
    """
    import pandas as pd

    rows = [
        _bar(section, row, column, cell)
        for section in table.sections
        for row in section.rows
        if row.seeds is not None
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell.of
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(_NUMBERS)


def _bar(section: Section, row: TableRow, column: Column, cell: TableCell) -> tuple[Any, ...]:
    """One row, in the order of COLUMNS."""
    native = row.view == "native"
    value = printed(section.model, section.site, row.variant, column) if native else None
    of_row = (section.model, section.site, row.k, row.variant, row.width, row.view)
    shown = "1 - score" if column.complement else "score"
    of_column = (*column.key, shown, column.higher_is_better)
    return (*of_row, *of_column, cell.mean, cell.sd, cell.n, cell.of, value)
