"""What to export from a results folder: the cells of a report, of some SAEs, or all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from abench.errors import UserError
from abench.names import name_problem
from abench.report.manifest import read_manifest
from abench.results.finding import find_sae, whole_sae
from abench.results.records import Record, SAERecord
from abench.results.sae_folder import MARK
from abench.results.store import Store
from abench.storage.bundle import Bundle


@dataclass(frozen=True)
class Chosen:
    """The cells and the SAEs of an export."""

    records: tuple[Record, ...]
    """All cells, including failed and skipped ones."""
    saes: tuple[tuple[Bundle, SAERecord], ...]
    """Place and record of the SAEs in this results folder, trained or given."""
    notes: tuple[str, ...] = ()
    """Sentences about damaged files and about SAEs that are damaged or failed."""

    def of(self, sae: SAERecord) -> list[Record]:
        """The cells of an SAE."""
        return [record for record in self.records if record.sae_key == sae.key]


def choose(results: Path, names: Sequence[str]) -> Chosen:
    """What the names stand for: reports, or SAEs by their folder or the beginning of a key; all without any.

    Raises UserError for an unknown name, and if an SAE that is named is damaged or failed.
    """
    store = Store.open(results, create=False)
    every = [record for _, record in store.all_records()]
    if not names:
        found, notes = _saes_of(every, store)
        return Chosen(tuple(every), tuple(found), (*store.damaged, *notes))
    cells: set[str] = set()
    saes: dict[str, tuple[Bundle, SAERecord]] = {}
    for name in names:
        report = _report(store, name)
        if report is None:
            place, sae = find_sae(results, name)
            saes[sae.key] = place, sae
            cells |= {record.key for record in every if record.sae_key == sae.key}
        else:
            cells |= report
    records = tuple(record for record in every if record.key in cells)
    found, notes = _saes_of(records, store)
    saes |= {sae.key: (place, sae) for place, sae in found}
    return Chosen(records, tuple(saes.values()), (*store.damaged, *notes))


def _report(store: Store, name: str) -> set[str] | None:
    """The keys of the cells with values in the report of this name; None if there is no such report."""
    manifest = None if name_problem(name) else read_manifest(store.report_folder(name))
    return None if manifest is None else set(manifest.values.values())


def _saes_of(records: Iterable[Record], store: Store) -> tuple[list[tuple[Bundle, SAERecord]], list[str]]:
    """The SAEs of the cells, in the order of their names, and sentences about the others."""
    found: list[tuple[Bundle, SAERecord]] = []
    notes: list[str] = []
    places = {place.name: place for place in map(store.sae_of, records)}
    for name in sorted(places, key=lambda name: name.split("/")):
        place = places[name]
        if place.has(MARK):
            try:
                found.append((place, whole_sae(place)))
            except UserError as error:
                notes.append(f"left out: {error}")
    return found, notes
