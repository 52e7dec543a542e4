"""Finding cells and trained SAEs in a results folder by the first digits of a key, or by their labels."""

from pathlib import Path

from abench.errors import UserError
from abench.results.records import SAERecord
from abench.results.sae_folder import MARK, read_sae
from abench.results.store import KEY_DIGITS, Store
from abench.storage.sealed import Damaged, Verified


def find_cells(store: Store, name: str) -> list[Path]:
    """The files of cells that have a key, a path or a label: an SAE's, or one with `/TASK` or `/TASK-VIEW`.

    The label is the one that progress shows, e.g. `topk_k16_w2048_s0`.
    """
    if found := store.find(name):
        return found
    files = sorted((store.root / "cells").glob("*/*/*/*.json"))
    labels = ((file, f"{file.parent.name}/{file.stem.rpartition('-')[0]}") for file in files)
    return [file for file, label in labels if f"{label}/".startswith((f"{name}/", f"{name}-"))]


def find_sae(results: Path, name: str) -> tuple[Path, SAERecord]:
    """The folder and record of a trained SAE, given its folder or the beginning of its key or a cell's key.

    Raises UserError if there is none or more than one, if it is damaged, or if its training failed.
    """
    if (Path(name) / MARK).is_file():
        return Path(name), _whole(Path(name))
    store = Store.open(results, create=False)
    folders = (mark.parent for mark in sorted((store.root / "saes").glob(f"*/*/*/{MARK}")))
    digits = name[:KEY_DIGITS]
    found = {f for f in folders if digits and f.name.rpartition("-")[2].startswith(digits)}
    records = (store.read(file) for file in store.find(name)) if not found and name else ()
    found |= {store.sae_folder_of(record) for record in records if record is not None}
    if not found:
        named = (mark.parent for mark in sorted((store.root / "saes").glob(f"*/*/*/{MARK}")))
        found = {folder for folder in named if folder.name.rpartition("-")[0] == name}
    if not found:
        raise UserError(
            f"no SAE or cell in {results} has a key that begins with '{name}': `abench status` lists the "
            f"cells, {results / 'saes'} holds the SAEs"
        )
    if len(found) > 1:
        names = ", ".join(sorted(folder.name for folder in found)[:4])
        raise UserError(f"'{name}' matches {len(found)} SAEs; give more digits of the key: {names}")
    (folder,) = found
    return folder, _whole(folder)


def _whole(folder: Path) -> SAERecord:
    try:
        record = read_sae(folder, None, Verified())
    except FileNotFoundError:
        raise UserError(f"{folder} is missing: `abench run` trains the SAE again") from None
    except Damaged as error:
        raise UserError(f"{error}: `abench run` trains the SAE again") from error
    if record.status == "failed":
        what = "used" if "given" in record.spec else "trained"
        raise UserError(f"the SAE in {folder} could not be {what}: {record.reason}")
    return record
