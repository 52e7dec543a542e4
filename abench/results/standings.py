"""Whether cells and SAEs are done, failed, missing or damaged, reading a file again only if it has changed.

What is found is kept for other processes, too (`abench.storage.findings`). This is only for finding out what
is missing: a process that uses a file verifies it itself.
"""

import json
from pathlib import Path
from typing import cast

from abench.results.records import Status
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
        """The status of an SAE whose record and files are intact; None for any other.

        What is wrong with it, `read_sae` finds out.
        """
        known = self._found(f"{folder}/{MARK}")
        if known is not None:
            found, status, files = json.loads(known)
            if found == key and all(self._found(f"{folder}/{name}") == files[name] for name in files):
                return cast(Status, status)
        try:
            return self._read_sae(folder, key)
        except (FileNotFoundError, Damaged):
            return None

    def _read_sae(self, folder: str, key: str) -> Status | None:
        mark = f"{folder}/{MARK}"
        stamp = self._stamp(mark)
        found, status, files = fields_of(raw_of(mark), "key", "status", "files")
        if stamp is None or found != key or not isinstance(files, dict):
            return None
        for name, digest in files.items():
            file = f"{folder}/{name}"
            self._verified.check(Path(file), digest)
            self._findings.add(file, self._verified.stamp(Path(file)), digest)
        self._findings.add(mark, stamp, json.dumps([key, status, files]))
        return cast(Status, status)

    def _found(self, path: str) -> str | None:
        stamp = self._stamp(path)
        return None if stamp is None else self._findings.text(path, stamp)

    def _stamp(self, path: str) -> Stamp | None:
        try:
            return Stamp.of(path)
        except OSError:
            self._findings.forget(path)
            return None
