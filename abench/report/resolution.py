"""The note under a table on the smallest differences that its numbers of seeds can resolve."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from abench.report.tables import Column, Table, TableCell
from abench.statistics import pooled_sd, smallest_difference


def with_resolution(table: Table) -> Table:
    """The table with the note; unchanged if no row has two seeds."""
    texts = list(_resolvable(table))
    if not texts:
        return table
    by_seeds = {n: "; ".join(text for seeds, text in texts if seeds == n) for n, _ in texts}
    notes = (
        f"The smallest difference that {n} seeds can resolve (two-sample t test at 5 %, power 80 %): {text}."
        for n, text in by_seeds.items()
    )
    return replace(table, notes=(*table.notes, *notes))


def _resolvable(table: Table) -> Iterator[tuple[int, str]]:
    """(Seeds, metric with its smallest difference) of each column in which one direction is better."""
    for number, column in enumerate(table.columns):
        cells = [row.cells[number] for row in table.rows() if row.cells[number].sd is not None]
        if column.higher_is_better is None or not cells:
            continue
        n, difference = _smallest(cells)
        yield n, f"{_name(column)} {difference:.2g}"


def _smallest(cells: Sequence[TableCell]) -> tuple[int, float]:
    """The number of seeds that most cells have, and the difference for their common standard deviation."""
    n, _ = Counter(cell.n for cell in cells).most_common(1)[0]
    sd = pooled_sd((cell.sd, cell.n) for cell in cells if cell.sd is not None)
    difference = smallest_difference(sd or 0.0, n)
    return n, difference or 0.0


def _name(column: Column) -> str:
    return " ".join(part for part in (column.task_label, column.title) if part)
