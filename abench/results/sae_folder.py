"""The folder of a trained SAE: its files, and `sae.json`, the sealed record with the checksum of each."""

from collections.abc import Collection
from pathlib import Path

from abench.results.records import SAERecord
from abench.storage.sealed import Damaged, Verified, read_sealed

MARK = "sae.json"
CURVE_FILE = "train.csv"


def read_sae(
    folder: Path, key: str | None, verified: Verified, *, names: Collection[str] | None = None
) -> SAERecord:
    """The record of the SAE in a folder, after verifying its files (or only those in `names`).

    Raises FileNotFoundError if there is no such folder, and Damaged, with the file's name, if a file is
    missing or changed, or belongs to another key.
    """
    mark = folder / MARK
    try:
        record = _record(mark, key)
    except FileNotFoundError as error:
        if not folder.exists():
            raise
        raise Damaged(f"{mark} is damaged (it is missing)") from error
    for name, digest in record.files.items():
        if names is None or name in names:
            try:
                verified.check(folder / name, digest)
            except Damaged as error:
                raise Damaged(f"{folder / name} is damaged ({error})") from error
    return record


def _record(mark: Path, key: str | None) -> SAERecord:
    try:
        record = SAERecord(**read_sealed(mark))
        if key is not None and record.key != key:
            raise Damaged("it belongs to an SAE with another key")
    except Damaged as error:
        raise Damaged(f"{mark} is damaged ({error})") from error
    except TypeError as error:
        raise Damaged(f"{mark} is not a record of this version ({error})") from error
    return record
