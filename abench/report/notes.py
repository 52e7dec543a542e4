"""The tables' footnotes: why a cell has no value, and how to read values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from abench.report.frame import Record
from abench.report.parts import cell_part_note, part_notes, tasks_that_differ
from abench.report.saes import absent_last
from abench.report.style import Styles, variant_order, variant_style
from abench.report.tables import RowKey, Table, TableCell
from abench.report.validity import unmet
from abench.sanitize.printable import one_line

L0_TOLERANCE = 0.1
"""A note points out SAEs whose measured L0 differs from k by more than this share of k."""

CellNotes = Mapping[tuple[RowKey, tuple[str, str]], Sequence[str]]
"""(row, (task, task version)) -> notes, in the order of seeds, without duplicates."""


def cell_notes(records: Sequence[Record], row_key: Callable[[Record], RowKey]) -> CellNotes:
    """The notes on single cells: failures, skips, missing cells, and what applies to some cells only."""
    some_limited = not all(record["limited"] for record in records if record["status"] == "done")
    differing = tasks_that_differ(records)
    found: dict[Any, dict[str, None]] = {}
    for record in sorted(records, key=lambda record: absent_last(record["labels"]["seed"])):
        place = (row_key(record), (record["labels"]["task"], record["labels"]["task_version"]))
        for text in (_cell_note(record, some_limited), cell_part_note(record, differing)):
            if text:
                found.setdefault(place, {})[text] = None
    return {place: tuple(texts) for place, texts in found.items()}


def explain(record: Record) -> str | None:
    """Why the cell has no value, on one line; None for a cell with a value."""
    if record["status"] == "done":
        return None
    if record["status"] == "missing":
        return f"Not computed: {one_line(record['reason'])}" if record["reason"] else "Not computed yet."
    return f"{record['status'].capitalize()}: {one_line(record['reason'] or 'no reason was recorded.')}"


def general_notes(records: Sequence[Record], tables: Sequence[Table], styles: Styles) -> tuple[str, ...]:
    """The notes on all tables; each is included only if a table contains what it explains."""
    cells = [cell for table in tables for cell in table.cells()]
    found = (
        limited_note(records),
        *part_notes(records),
        *_less_than_requested(records),
        *_reading(cells),
        _not_meaningful(records),
        *_views(tables),
        _l0(records, styles),
    )
    return tuple(note for note in found if note)


def limited_note(records: Sequence[Record]) -> str | None:
    """The note that values come from only part of the data; None if no cell was limited."""
    done = [record for record in records if record["status"] == "done"]
    limited = sum(bool(record["limited"]) for record in done)
    if not limited:
        return None
    share = "every value was" if limited == len(done) else f"{limited} of {len(done)} cells were"
    return f"Limited run: {share} computed on only part of the data; do not compare with full runs."


def _less_than_requested(records: Sequence[Record]) -> Iterator[str]:
    """One note per task and kind of data of which less was available than requested."""
    found: dict[tuple[str, str, int], set[int]] = {}
    for record in records:
        for amount in record.get("used") or ():
            if record["status"] == "done" and amount["used"] < amount["requested"]:
                key = (record["labels"]["task"], amount["what"], amount["requested"])
                found.setdefault(key, set()).add(amount["used"])
    for (task, what, requested), used in sorted(found.items()):
        least, most = min(used), max(used)
        share = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        yield f"Less data than requested: {task}: {share} of {requested:,} {what}."


def _cell_note(record: Record, some_limited: bool) -> str | None:
    if record["status"] == "done" and record["limited"] and some_limited:
        return "Limited: computed on only part of the data."
    return explain(record)


def _reading(cells: Sequence[TableCell]) -> Iterator[str]:
    if any(cell.sd is not None for cell in cells):
        yield "Mean ± sample standard deviation over seeds (n − 1 in the denominator)."
    if any(cell.interval_text and cell.n > 1 for cell in cells):
        yield "In brackets: the 95 % interval of the mean over seeds (Student's t)."
    if any(cell.interval_text and cell.n == 1 for cell in cells):
        yield "In brackets after one seed's value: the 95 % interval over items (bootstrap, BCa)."
    if any(cell.n == cell.of == 1 for cell in cells):
        yield "A value without ± comes from one seed (n = 1)."
    if any(0 < cell.n < cell.of for cell in cells):
        yield "n/N: only n of N seeds have a value; no mean is computed over fewer seeds than planned."
    if any(cell.of and not cell.n for cell in cells):
        yield "—: no value; the numbered note gives the reason."
    if any(cell.bold for cell in cells):
        yield f"Bold: {_best(cells)}; ↑ and ↓ mark the better direction."


def _best(cells: Sequence[TableCell]) -> str:
    best = "the best printed mean for each model, site and k"
    if not any(cell.bold and cell.n > 1 for cell in cells):
        return best
    return f"{best}, and every mean that the seeds cannot tell from it (t tests at 5 %, Bonferroni)"


def _not_meaningful(records: Sequence[Record]) -> str | None:
    if not any(map(unmet, records)):
        return None
    return (
        "Scores that are not meaningful count as missing: they are in no mean, comparison or figure. data.csv"
        " contains them, with `valid` = False and the reason."
    )


def _views(tables: Sequence[Table]) -> Iterator[str]:
    rows = [row for table in tables for row in table.rows() if row.k is not None]
    if any(row.view == "split" for row in rows):
        yield (
            "The view `native` treats a signed latent as one unit; `split` treats each of its two poles as a"
            " latent. For SAEs without negative latents the two views are the same."
        )
    if any(not cell.of for row in rows for cell in row.cells):
        yield "Empty cells were not part of the run."


def _l0(records: Sequence[Record], styles: Styles) -> str | None:
    """A note on variants whose L0 missed k: many metrics increase with L0, so they are not comparable."""
    missed = variant_order(record["labels"]["variant"] for record in records if _missed_k(record))
    if not missed:
        return None
    names = ", ".join(variant_style(name, styles).title for name in missed)
    return (
        f"Compare with care: the measured L0 differs from k by more than {L0_TOLERANCE:.0%} for some SAEs of"
        f" {names}."
    )


def _missed_k(record: Record) -> bool:
    k = record["labels"]["k"]
    l0 = record["scores"].get("l0") if record["labels"]["task"] == "core" else None
    return l0 is not None and k is not None and abs(l0 - k) > L0_TOLERANCE * k
