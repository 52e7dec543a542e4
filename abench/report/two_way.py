"""Two-way steering from cells with `two_way` details: how far each method moves continuations, in percent.

Every cell contains the results of the methods that need no SAE, so that all rows of a model and site are
based on the same stems.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from abench.report.cells import lacking_cell, share_cell
from abench.report.frame import Record
from abench.report.rows import Planned, by_place, other_row, planned_seeds, sae_rows, stored
from abench.report.style import Styles
from abench.report.tables import Column, Section, Table, TableCell, TableRow
from abench.report.validity import is_valid
from abench.tables import TaskTable

_COLUMNS: tuple[tuple[str, str, bool | None, str], ...] = (
    ("range", "range, %", True, "share of the positive pole at the high end minus that at the low end"),
    ("one_way", "one way, %", None, "the same for one latent in one direction; the other end is unsteered"),
    ("pair", "pair, %", None, "the same for the best two latents, each in one direction"),
    ("high", "high end, %", None, "share of the positive pole at the high end"),
    ("low", "low end, %", None, "share of the positive pole at the low end"),
    ("loss", "loss, nats", False, "nats per token more than unsteered, at the worse end"),
    ("degenerate", "degenerate, %", False, "continuations at the worse end that are empty or loops"),
    ("moved", "others, %", False, "mean absolute change of the other concepts' shares between the ends"),
)
_METHODS = {"random": "Random direction", "pca": "Principal component", "probe": "Probe", "dim": "DiM"}
"""The methods without an SAE, in the order of their rows."""

Details = Mapping[str, Any]


def two_way_table(records: Sequence[Record], styles: Styles) -> Table | None:
    """The table of two-way steering; None if no cell has the details for it."""
    cells, planned = stored(records, "two_way"), planned_seeds(records)
    if not cells:
        return None
    sections = tuple(Section(*place, tuple(_rows(mine, planned, styles))) for place, mine in by_place(cells))
    columns = tuple(Column.own(name, title, text, higher) for name, title, higher, text in _COLUMNS)
    return Table("", columns, sections, tuple(dict.fromkeys(_notes(cells))))


def _details(record: Record) -> Details:
    details: Details = record["details"]["two_way"]
    return details


def _rows(cells: Sequence[Record], planned: Planned, styles: Styles) -> Iterator[TableRow]:
    for name, title in _METHODS.items():
        yield other_row(name, title, _cells([(cells[0], {"range": _details(cells[0])["methods"][name]})], 1))
    yield from sae_rows(cells, planned, styles, _values)


def _values(same: Sequence[Record], of: int) -> tuple[TableCell, ...]:
    return _cells([(cell, _of_sae(_details(cell)["methods"])) for cell in same], of)


def _of_sae(methods: Mapping[str, Details]) -> dict[str, Details]:
    return {"range": methods["both"], "one_way": methods["one"], "pair": methods["pair"]}


def _cells(found: Sequence[tuple[Record, Mapping[str, Details]]], of: int) -> tuple[TableCell, ...]:
    """The cells of a row from the methods of its seeds, by column; `range` has the remaining columns, too."""

    def cell(column: str) -> TableCell:
        mine = [methods for record, methods in found if is_valid(record, (column,))]
        if column in {"range", "one_way", "pair"}:
            if not all(column in methods for _, methods in found):
                return TableCell()
            return share_cell([methods[column]["range"] for methods in mine], of)
        if len(mine) < of:
            return lacking_cell(len(mine), of)
        mean = fmean(methods["range"][column] for methods in mine)
        text = f"{mean:.2f}" if column == "loss" else f"{100 * mean:.1f}"
        return TableCell(mean, None, len(mine), of, text)

    return tuple(cell(name) for name, *_ in _COLUMNS)


def _notes(cells: Sequence[Record]) -> Iterator[str]:
    for cell in cells:
        details = _details(cell)
        first = next(iter(details["methods"].values()))
        concepts = len(details["concepts"])
        means = f"Means over {concepts} concepts" if concepts > 1 else "One concept"
        yield (
            f"{means} with {first['range'][3]:,} stems in total. In brackets: 95 % "
            "intervals of a single run (bootstrap over stems). A continuation that shows neither pole counts "
            "one half. Unsteered, the share of the positive pole is "
            f"{100 * fmean(details['unsteered'].values()):.1f} %."
        )
        yield (
            f"On other stems, each method tried up to {details['candidates']} candidates at the same "
            "strengths; shown are the ends chosen there, at a fluency loss of at most "
            f"{details['max_loss']:g} nats per token and at most {100 * details['max_degenerate']:g} points "
            "more degenerate continuations."
        )
        yield from _readers(details["readers"])


def _readers(readers: Mapping[str, Details]) -> Iterator[str]:
    known = {name: each["accuracy"] for name, each in readers.items() if "accuracy" in each}
    if known:
        told = ", ".join(
            f"{name} {100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {n:,}"
            for name, (value, low, high, n) in known.items()
        )
        yield f"Poles are read by a classifier, which is right on held-out texts of the same length: {told}."


TWO_WAY_TABLE = TaskTable("Two-way steering", two_way_table, replaces_headline=True)
"""The table of `two_way_steering`."""
