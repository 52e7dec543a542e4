"""Finding a trained SAE in a results folder by a few digits."""

from pathlib import Path

from abench.errors import UserError
from abench.records import SAERecord
from abench.sae_folder import MARK, read_sae
from abench.sealed import Damaged, Verified
from abench.store import KEY_DIGITS, Store


def find_sae(results: Path, name: str) -> tuple[Path, SAERecord]:
    """The folder and record of a trained SAE: by its folder, or the beginning of its key or of a cell's.

    Raises UserError if there is none, or several, or if one of its files is damaged.
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
        raise UserError(
            f"no SAE in {results} has the key '{name}', nor has a cell: `abench status` lists cells, "
            f"{results / 'saes'} holds the SAEs"
        )
    if len(found) > 1:
        names = ", ".join(sorted(folder.name for folder in found)[:4])
        raise UserError(f"'{name}' fits {len(found)} SAEs; give more of the key: {names}")
    (folder,) = found
    return folder, _whole(folder)


def _whole(folder: Path) -> SAERecord:
    try:
        record = read_sae(folder, None, Verified())
    except FileNotFoundError:
        raise UserError(f"{folder} is gone: `abench run` trains the SAE again") from None
    except Damaged as error:
        raise UserError(f"{error}: `abench run` trains the SAE again") from error
    if record.status == "failed":
        raise UserError(f"the SAE in {folder} could not be trained: {record.reason}")
    return record
