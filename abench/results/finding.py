"""Finding cells and trained SAEs in a store by the first digits of a key, or by their labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from abench.errors import UserError
from abench.results.records import Record, SAERecord
from abench.results.sae_folder import MARK, read_sae
from abench.results.store import KEY_DIGITS, Store
from abench.storage.bundle import Bundle
from abench.storage.opening import backend_at, bundle_at
from abench.storage.sealed import Damaged


@dataclass(frozen=True)
class FoundCell:
    """A cell's value. Its text is how users are told of it."""

    store: Store
    name: str

    def __str__(self) -> str:
        return self.store.backend.shown(self.name)

    @property
    def label(self) -> str:
        """Its SAE, its task and its key: the last two parts of its name, without the suffix."""
        return "/".join(self.name.removesuffix(".json").split("/")[-2:])

    def record(self) -> Record | None:
        """The record; None if it is damaged, which `store.damaged` then names."""
        return self.store.read(self.name)


def find_cells(store: Store, name: str) -> list[FoundCell]:
    """The cells that have a key, a path or a label: an SAE's, or one with `/TASK` or `/TASK-VIEW`.

    The label is the one that progress shows, e.g. `topk_k16_w2048_s0`. The path may be that of any file.
    """
    if found := _by_key(store, name):
        return found
    begins = (f"{name}/", f"{name}-")
    return [c for c in _cells(store) if f"{c.label.rpartition('-')[0]}/".startswith(begins)]


def _by_key(store: Store, name: str) -> list[FoundCell]:
    """The cell in a file, or those whose key begins with a name or whose path ends with it."""
    exact = Path(name)
    if exact.is_file():
        return [FoundCell(Store(backend_at(exact.parent)), exact.name)]
    cells, digits = _cells(store), name[:KEY_DIGITS]
    return [c for c in cells if c.label.rpartition("-")[2].startswith(digits) or str(c).endswith(name)]


def _cells(store: Store) -> list[FoundCell]:
    return [FoundCell(store, name) for name in store.cell_names()]


def find_sae(results: Path, name: str) -> tuple[Bundle, SAERecord]:
    """The files and the record of a trained SAE, given its folder or the beginning of its or a cell's key.

    Raises UserError if there is none or more than one, if it is damaged, or if its training failed.
    """
    if (Path(name) / MARK).is_file():
        found = bundle_at(Path(name))
        return found, whole_sae(found)
    store = Store.open(results, create=False)
    matching = _matching(store, name)
    if not matching:
        raise UserError(
            f"no SAE or cell in {results} has a key that begins with '{name}': `abench status` lists the "
            f"cells, {store.backend.shown('saes')} holds the SAEs"
        )
    if len(matching) > 1:
        names = ", ".join(sorted(each.rpartition("/")[2] for each in matching)[:4])
        raise UserError(f"'{name}' matches {len(matching)} SAEs; give more digits of the key: {names}")
    found = Bundle(store.backend, *matching)
    return found, whole_sae(found)


def _matching(store: Store, name: str) -> set[str]:
    """The SAEs whose key, or that of one of whose cells, begins with the name, or whose label is the name."""
    digits = name[:KEY_DIGITS]
    labels = {each: each.rpartition("/")[2].rpartition("-") for each in store.sae_names()}
    of_key = [each for each, (_, _, key) in labels.items() if digits and key.startswith(digits)]
    of_label = [each for each, (label, _, _) in labels.items() if label == name]
    if found := _recorded(store, of_key):
        return found
    records = [cell.record() for cell in _by_key(store, name)] if name else []
    of_cell = {store.sae_of(record).name for record in records if record is not None}
    return of_cell or _recorded(store, of_label)


def _recorded(store: Store, names: Iterable[str]) -> set[str]:
    """The SAEs among these that have a record."""
    return {name for name in names if Bundle(store.backend, name).has(MARK)}


def whole_sae(place: Bundle) -> SAERecord:
    """The record of an SAE whose files are intact. Raises UserError if they are not, or if it failed."""
    try:
        record = read_sae(place, None)
    except FileNotFoundError:
        raise UserError(f"{place} is missing: `abench run` trains the SAE again") from None
    except Damaged as error:
        raise UserError(f"{error}: `abench run` trains the SAE again") from error
    if record.status == "failed":
        what = "used" if "given" in record.spec else "trained"
        raise UserError(f"the SAE in {place} could not be {what}: {record.reason}")
    return record
