"""Whether cells and SAEs are done, failed, missing or damaged, reading a file again only if it has changed.

What is found is kept for other processes, too (`abench.storage.findings`). This is only for finding out what
is missing: a process that uses a file verifies it itself.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from abench.results.records import SAERecord, Status
from abench.results.sae_folder import MARK
from abench.storage.findings import Findings
from abench.storage.sealed import Damaged, Stamp, Verified, fields_of, raw_of


class Standings:
    """The standings of a results folder's cells and SAEs, as found in their files."""

    def __init__(self, root: Path, verified: Verified) -> None:
        self._findings = Findings(root)
        self._verified = verified

    @property
    def damage(self) -> str | None:
        """Why the index of the folder cannot be used; None if it can, or there is none."""
        return self._findings.damage

    def save(self) -> None:
        """Keep what was found for other processes, if it was much."""
        self._findings.save()

    def of_cell(self, file: str, key: str) -> Status:
        """The status in a cell's file; raises FileNotFoundError, and Damaged, also for another key."""
        stamp = self._stamp(file)
        if stamp is None:
            raise FileNotFoundError(file)
        known, _, status = (self._findings.text(file, stamp) or "").partition(" ")
        if known != key:
            found, status = fields_of(raw_of(file), "key", "status")
            if found != key:
                raise Damaged("it belongs to another key")
            self._findings.add(file, stamp, f"{key} {status}")
        return cast(Status, status)

    def of_sae(self, folder: str, key: str) -> Status | None:
        """The status of an SAE of which this process or another has verified all files; else None."""
        found = self._found(f"{folder}/{MARK}")
        if found is None:
            return None
        known, status, files = cast(tuple[str, Status, Mapping[str, str]], json.loads(found))
        if known != key or any(self._found(f"{folder}/{name}") != files[name] for name in files):
            return None
        return status

    def add_sae(self, folder: str, stamp: Stamp, record: SAERecord) -> None:
        """Remember an SAE with verified files; `stamp` is that of its record before it was read."""
        text = json.dumps([record.key, record.status, record.files])
        self._findings.add(f"{folder}/{MARK}", stamp, text)
        for name, digest in record.files.items():
            file = f"{folder}/{name}"
            self._findings.add(file, self._verified.stamp(Path(file)), digest)

    def _found(self, path: str) -> str | None:
        stamp = self._stamp(path)
        return None if stamp is None else self._findings.text(path, stamp)

    def _stamp(self, path: str) -> Stamp | None:
        try:
            return Stamp.of(path)
        except OSError:
            self._findings.forget(path)
            return None
