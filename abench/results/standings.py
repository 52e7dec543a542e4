"""Whether cells and SAEs are done, failed, missing or damaged, reading a value again only if it has changed.

What is found is kept for other processes, too (`abench.storage.findings`). This is only for finding out what
is missing: a process that uses a value verifies it itself.
"""

import json
from typing import cast

from abench.results.records import Status
from abench.results.sae_folder import MARK
from abench.storage.backend import Backend
from abench.storage.findings import Findings
from abench.storage.sealed import Damaged, Stamp, Verified, fields_of


class Standings:
    """The standings of a store's cells and SAEs, as found in their values."""

    def __init__(self, backend: Backend, verified: Verified) -> None:
        self._backend = backend
        self._findings = Findings(backend)
        self._verified = verified

    @property
    def damage(self) -> str | None:
        """Why the index of the store cannot be used; None if it can, or there is none."""
        return self._findings.damage

    def save(self) -> None:
        """Keep what was found for other processes, if it was much."""
        self._findings.save()

    def of_cell(self, name: str, key: str) -> Status:
        """The status in a cell's value; raises FileNotFoundError, and Damaged, also for another key."""
        stamp = self._stamp(name)
        if stamp is None:
            raise FileNotFoundError(name)
        known, _, status = (self._findings.text(name, stamp) or "").partition(" ")
        if known != key:
            found, status = fields_of(self._backend.read(name), "key", "status")
            if found != key:
                raise Damaged("it belongs to another key")
            self._findings.add(name, stamp, f"{key} {status}")
        return cast(Status, status)

    def of_sae(self, bundle: str, key: str) -> Status | None:
        """The status of an SAE whose record and files are intact; None for any other.

        What is wrong with it, `read_sae` finds out.
        """
        known = self._found(f"{bundle}/{MARK}")
        if known is not None:
            found, status, files = json.loads(known)
            if found == key and all(self._found(f"{bundle}/{name}") == files[name] for name in files):
                return cast(Status, status)
        try:
            return self._read_sae(bundle, key)
        except (FileNotFoundError, Damaged):
            return None

    def _read_sae(self, bundle: str, key: str) -> Status | None:
        mark = f"{bundle}/{MARK}"
        stamp = self._stamp(mark)
        found, status, files = fields_of(self._backend.read(mark), "key", "status", "files")
        if stamp is None or found != key or not isinstance(files, dict):
            return None
        for name, digest in files.items():
            file = f"{bundle}/{name}"
            self._verified.check(file, digest)
            self._findings.add(file, self._verified.stamp(file), digest)
        self._findings.add(mark, stamp, json.dumps([key, status, files]))
        return cast(Status, status)

    def _found(self, name: str) -> str | None:
        stamp = self._stamp(name)
        return None if stamp is None else self._findings.text(name, stamp)

    def _stamp(self, name: str) -> Stamp | None:
        try:
            return self._backend.stamp(name)
        except OSError:
            self._findings.forget(name)
            return None
