"""Protects a report with values from being replaced by one without them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from abench.errors import UserError
from abench.report.frame import Record
from abench.report.manifest import CELL, Labels, Manifest, SpecOf, labels_of, short
from abench.storage.keys import difference


class ValuesLostError(UserError):
    """The report in the folder has values that its replacement lacks."""


def check_losses(folder: Path, old: Manifest | None, records: Sequence[Record], spec_of: SpecOf) -> None:
    """Raise ValuesLostError if replacing the report `old` with one of these records would lose values.

    Values would be lost if the old report has some but no record has any, or if a cell that had a value has
    other options in the new report (same labels, another key) and is still missing there.
    """
    if old is None or not old.values:
        return
    new = {labels_of(record): record for record in records}
    lost = [labels for labels, key in old.values.items() if _is_lost(key, new.get(labels))]
    nothing = not any(record["status"] == "done" for record in records)
    if not lost and not nothing:
        return
    number = len(old.values) if nothing else len(lost)
    cells = "1 cell" if number == 1 else f"{number:,} cells"
    raise ValuesLostError(
        f"the report in {folder} has values of {cells} that the new one would lack: "
        f"{_cause(old, new, lost, spec_of)}. It is not replaced: choose another name with --name, or compute"
        " the cells first with `abench run`"
    )


def _is_lost(key: str, record: Record | None) -> bool:
    return record is not None and record["status"] == "missing" and record["key"] != key


def _cause(old: Manifest, new: Mapping[Labels, Record], lost: Sequence[Labels], spec_of: SpecOf) -> str:
    for labels in (*lost, *(labels for labels in new if labels in old.values)):
        before = old.specs.get(old.values[labels])
        now = spec_of(str(new[labels]["key"])) if before is not None else None
        if before is not None and now is not None and (found := difference(before, now)):
            return f"it was made with other options ({short(found)})"
    if lost:
        return f"it was made with other options (one of its cells has the key {old.values[lost[0]][:12]})"
    if any(labels in new for labels in old.values):
        return "the cells of this run have no values"
    return f"it is about other cells ({_others(old, new)})"


def _others(old: Manifest, new: Mapping[Labels, Record]) -> str:
    """The labels in which the two reports differ, for a sentence."""
    found = []
    for place, name in enumerate(CELL):
        there, here = ({labels[place] for labels in each} for each in (old.values, new))
        if there != here:
            found.append((name, sorted(map(str, there)), sorted(map(str, here))))
    return short(found)
