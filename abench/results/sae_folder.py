"""The bundle of a trained SAE: its files, and `sae.json`, the sealed record with the checksum of each."""

from collections.abc import Collection

from abench.results.records import SAERecord
from abench.storage.bundle import Bundle
from abench.storage.sealed import Damaged, Verified, content_of

MARK = "sae.json"
CURVE_FILE = "train.csv"


def read_sae(
    place: Bundle,
    key: str | None,
    verified: Verified | None = None,
    *,
    names: Collection[str] | None = None,
) -> SAERecord:
    """The record of the SAE in a bundle, after verifying its files (or only those in `names`).

    `verified` remembers the files of the same store that were verified before. Raises FileNotFoundError if
    there is no such bundle, and Damaged, with the file's name, if a file is missing or changed, or belongs to
    another key.
    """
    verified = verified or Verified(place.backend.stamp, place.backend.digest)
    try:
        record = _record(place, key)
    except FileNotFoundError as error:
        if not place.exists():
            raise
        raise Damaged(f"{place.shown(MARK)} is damaged (it is missing)") from error
    for name, digest in record.files.items():
        if names is None or name in names:
            try:
                verified.check(place.file(name), digest)
            except Damaged as error:
                raise Damaged(f"{place.shown(name)} is damaged ({error})") from error
    return record


def _record(place: Bundle, key: str | None) -> SAERecord:
    mark = place.shown(MARK)
    try:
        record = SAERecord(**content_of(place.read(MARK)))
        if key is not None and record.key != key:
            raise Damaged("it belongs to an SAE with another key")
    except Damaged as error:
        raise Damaged(f"{mark} is damaged ({error})") from error
    except TypeError as error:
        raise Damaged(f"{mark} is not a record of this version ({error})") from error
    return record
