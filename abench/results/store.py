"""The store of results: the only module that knows the names of its values.

    abench.json                                     the folder's schema
    saes/MODEL/SITE/LABEL-KEY/                      a trained SAE: sae-lens files, train.csv, sae.json
    cells/MODEL/SITE/LABEL/TASK-VIEW-KEY.json       the scores of one SAE on one task
    checkpoints/KEY/                                checkpoints of unfinished training
    findings.json                                   an index of large folders, to read files once
    drivers/TOKEN.json                              runs that several workers compute (drivers.py)
    kept/AB/KEY.json                                values that tasks cache across cells, e.g. judges' answers
    reports/NAME/                                   tables and figures
    activations/                                    a temporary activation cache, while runs use it

Values, and an SAE's or a checkpoint's bundle of them, are replaced as a whole while their writer holds the
lease on their key (`abench.storage.backend`, which says what a place for them must guarantee). Every value
contains a checksum (`abench.storage.sealed`) or has one in its bundle's `sae.json`, which is verified when it
is used. Damaged values are treated as missing and listed in `damaged`. In a folder, names are paths.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.kept import StoredKept
from abench.names import path_part
from abench.results.jobs import Cell, Job, sae_label
from abench.results.leftovers import CHECKPOINTS, clear_leftovers
from abench.results.records import Record as Record
from abench.results.records import SAERecord as SAERecord
from abench.results.records import Status as Status
from abench.results.sae_folder import CURVE_FILE as CURVE_FILE
from abench.results.sae_folder import MARK, read_sae
from abench.results.standings import Standings
from abench.results.store_mark import MARK as STORE_MARK
from abench.results.store_mark import check_mark
from abench.storage.backend import Backend
from abench.storage.bundle import Bundle
from abench.storage.claims import Lease, LeaseLost
from abench.storage.faults import writing
from abench.storage.findings import FILE as INDEX
from abench.storage.memory import MemoryBackend
from abench.storage.opening import backend_at
from abench.storage.sealed import (
    Damaged,
    Stamp,
    Verified,
    content_of,
    cut_inner,
    rest_of,
    sealed_text,
    write_sealed,
)
from abench.training.checkpoint_files import step_of

_part = lru_cache(maxsize=1024)(path_part)

KEY_DIGITS = 12
"""Digits of a key in the names of values and bundles."""


class Store:
    """SAEs, scores and what belongs to them, in a folder or wherever else `backend` keeps them."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.damaged: list[str] = []
        """One sentence per damaged value, which is treated as missing."""
        self._named: set[tuple[str, Stamp | None]] = set()
        self._verified = Verified(backend.stamp, backend.digest)
        self._standings = Standings(backend, self._verified)
        self._places: dict[str, str] = {}
        self._shared: dict[bytes, Any] = {}

    @classmethod
    def open(cls, place: str | Path, *, create: bool) -> "Store":
        """The results at a place, usually a folder.

        With `create`, it is created if it does not exist. Raises StorageError if it cannot be created, and
        UserError if it does not exist (without `create`) or was written by another version of abench.
        """
        return cls.on(backend_at(place), create=create)

    @classmethod
    def on(cls, backend: Backend, *, create: bool) -> "Store":
        """The results that a backend keeps; see `open`."""
        store = cls(backend)
        check_mark(backend, create=create, name_damage=store._name_damage)
        return store

    @classmethod
    def in_memory(cls) -> "Store":
        """An empty store that ends with this object, for one process."""
        return cls.on(MemoryBackend(), create=True)

    @staticmethod
    def exists(place: str | Path) -> bool:
        """Whether a store has been begun at a place."""
        return backend_at(place).exists(STORE_MARK)

    @property
    def notices(self) -> list[str]:
        """Sentences about work that was taken over although its process may still be running."""
        return self.backend.leases.notices

    @property
    def place(self) -> str:
        """What another process opens the same results by. Raises UserError if none can."""
        return self.backend.place

    def check_writable(self) -> None:
        """Raise UserError if the store is not writable; call only if results are missing."""
        if not self.backend.is_writable():
            raise UserError(
                f"the results folder {self.backend.shown('')} is not writable, and results are missing from "
                "it: make it writable or choose another with --results"
            )

    # Trained SAEs

    def sae(self, job: Job) -> Bundle:
        """Where the files of an SAE are or will be."""
        return Bundle(self.backend, self._sae_name(job))

    def _sae_name(self, job: Job) -> str:
        return f"saes/{self._place(job)}-{job.key[:KEY_DIGITS]}"

    def _place(self, job: Job) -> str:
        """MODEL/SITE/LABEL of an SAE, the path below `saes` and `cells`; validated once, then cached."""
        place = self._places.get(job.key)
        if place is None:
            parts = map(path_part, (job.model.name, job.site, sae_label(job.labels())))
            place = self._places[job.key] = "/".join(parts)
        return place

    def sae_of(self, record: Record) -> Bundle:
        """Where the files of the SAE of a cell's record are."""
        labels = record.labels
        label = path_part(f"{sae_label(labels)}-{record.sae_key[:KEY_DIGITS]}")
        name = f"saes/{path_part(labels['model'])}/{path_part(labels['site'])}/{label}"
        return Bundle(self.backend, name)

    def sae_names(self) -> list[str]:
        """The names of the bundles of all SAEs, from all runs."""
        return self.backend.names("saes", 3)

    def get_sae(self, job: Job) -> SAERecord | None:
        """The record of a trained (or failed) SAE with intact files; None if it must be trained."""
        return self._read_sae(job, None)

    def _read_sae(self, job: Job, names: Collection[str] | None) -> SAERecord | None:
        place = self.sae(job)
        try:
            return read_sae(place, job.key, self._verified, names=names)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._name_damage(place.file(MARK), f"{error}; the SAE is trained again")
            return None

    def sae_standing(self, job: Job) -> Status:
        """Whether an SAE is done, failed, missing or damaged.

        As with `standing`, its files are read again only if one of them has changed.
        """
        name = self._sae_name(job)
        known = self._standings.of_sae(name, job.key)
        if known is not None:
            return known
        record = self.get_sae(job)  # names the damage
        if record is not None:
            return record.status
        return "damaged" if self.backend.exists(name) else "missing"

    def curve(self, job: Job) -> str | None:
        """The training curve of an SAE as CSV; None if there is none, or it is damaged."""
        record = self._read_sae(job, (CURVE_FILE,))
        if record is None or CURVE_FILE not in record.files:
            return None
        return self.sae(job).read(CURVE_FILE).decode()

    def put_sae(self, job: Job, record: SAERecord, draft: Path | None, lease: Lease | None = None) -> None:
        """Store an SAE atomically: its record and the files of the folder `draft`, if any.

        Without a lease, takes one for the duration. Raises LeaseLost if another process holds it, and
        StorageError.
        """
        with self._leased(job.key, lease) as held:
            draft = draft or self.draft_folder(job, held)
            try:
                with writing(draft):
                    write_sealed(draft / MARK, asdict(record))
                self.sae(job).publish(draft, held)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def draft_folder(self, job: Job, lease: Lease | None = None) -> Path:
        """An empty local folder for the files of an SAE, to pass to `put_sae`. Raises StorageError."""
        return self.sae(job).draft(lease)

    def checkpoint(self, job: Job) -> Bundle:
        """Where the checkpoint of an SAE that is being trained is."""
        return Bundle(self.backend, f"{CHECKPOINTS}/{job.key}")

    def checkpoint_step(self, job: Job) -> int | None:
        """The training step of an SAE's newest intact checkpoint; None if there is none."""
        return step_of(self.checkpoint(job))

    # Cells

    def _cell_name(self, cell: Cell) -> str:
        return f"cells/{self._place(cell.sae)}/{_part(cell.label)}-{cell.key[:KEY_DIGITS]}.json"

    def shown(self, cell: Cell) -> str:
        """How users are told where a cell is; in a folder, its file."""
        return self.backend.shown(self._cell_name(cell))

    def get(self, cell: Cell) -> Record | None:
        """The record of a cell; None if there is none, or it is damaged."""
        return self._read(self._cell_name(cell), cell.key)

    def get_brief(self, cell: Cell) -> Record | None:
        """As `get`, but without the spec and the traceback, which are most of a record.

        Records with equal metrics share one object, as do those with equal packages in their provenance.
        """
        return self._read(self._cell_name(cell), cell.key, self._brief)

    def _brief(self, raw: bytes) -> dict[str, Any]:
        content, (metrics, provenance, _, _) = rest_of(raw, "metrics", "provenance", "spec", "traceback")
        if metrics is not None:
            content["metrics"] = self._once(metrics)
        if provenance is not None:
            packages, rest = cut_inner(provenance, "packages")
            content["provenance"] = json.loads(rest)
            if packages is not None:
                content["provenance"]["packages"] = self._once(packages)
        return content

    def _once(self, text: bytes) -> Any:
        """The value of a JSON text; equal texts share one object, which nobody may change."""
        if text not in self._shared:
            self._shared[text] = json.loads(text)
        return self._shared[text]

    def standing(self, cell: Cell) -> Status:
        """The status of the record that `get` would find.

        A value is only read if it has changed since this process, or the one that wrote the index, read it.
        """
        name = self._cell_name(cell)
        try:
            return self._standings.of_cell(name, cell.key)
        except FileNotFoundError:
            return "missing"
        except Damaged as error:
            sentence = f"{self.backend.shown(name)} is damaged ({error}); it is computed again"
            self._name_damage(name, sentence)
            return "damaged"

    def save_standings(self) -> None:
        """Keep what `standing` and `sae_standing` found in many values for the next process."""
        if (damage := self._standings.damage) is not None:
            shown = self.backend.shown(INDEX)
            self._name_damage(INDEX, f"{shown} is damaged ({damage}); it is written again")
        self._standings.save()

    def put(self, cell: Cell, record: Record, lease: Lease | None = None) -> None:
        """Store a cell's record. Without a lease, takes one for the duration.

        Raises LeaseLost if another process holds it, and StorageError.
        """
        text = sealed_text(asdict(record))
        with self._leased(cell.key, lease) as held:
            self.backend.write(self._cell_name(cell), text, lease=held)

    def cell_names(self) -> list[str]:
        """The names of the values of all cells, from all runs; `read` gives their records."""
        return [name for name in self.backend.names("cells", 4) if name.endswith(".json")]

    def all_records(self) -> Iterator[tuple[str, Record]]:
        """Every intact cell in the store, with its name, from all runs."""
        for name in self.cell_names():
            record = self.read(name)
            if record is not None:
                yield name, record

    def read(self, name: str) -> Record | None:
        """The record in one cell's value; None if it is damaged."""
        return self._read(name, None)

    # Work in progress

    def claim(self, key: str) -> AbstractContextManager[Lease | None]:
        """A lease on the work for a key; yields None if another process holds it. Raises StorageError."""
        return self.backend.leases.claim(key)

    def claimed_by(self, key: str) -> str | None:
        """The process that holds the lease on the work for a key; None if none does."""
        return self.backend.leases.holder(key)

    def claims(self) -> dict[str, str]:
        """The processes that hold leases, by the key of their work."""
        return self.backend.leases.holders()

    @contextmanager
    def _leased(self, key: str, lease: Lease | None) -> Iterator[Lease]:
        if lease is not None:
            yield lease
            return
        with self.claim(key) as own:
            if own is None:
                raise LeaseLost(f"{self.claimed_by(key) or 'another process'} is working on {key}")
            yield own

    def clear_leftovers(self) -> None:
        """Remove what ended processes have left; never anything in use by a running one."""
        clear_leftovers(self.backend, self._is_saved)

    def _is_saved(self, key: str) -> bool:
        for name in self.sae_names():
            if name.endswith(f"-{key[:KEY_DIGITS]}"):
                with suppress(Damaged, FileNotFoundError):
                    return read_sae(Bundle(self.backend, name), key, self._verified).status == "done"
        return False

    # Everything else

    def kept(self) -> StoredKept:
        """The cache of values that tasks share across cells."""
        return StoredKept(self.backend, "kept/", self._name_damage)

    def report_folder(self, name: str) -> Path:
        """The local folder of a report."""
        return self.backend.folder(f"reports/{path_part(name)}")

    @property
    def activations_folder(self) -> Path:
        """The local folder of the activation cache of runs that share it between their sites only."""
        return self.backend.folder("activations")

    def _read(
        self, name: str, key: str | None, content_in: Callable[[bytes], dict[str, Any]] = content_of
    ) -> Record | None:
        try:
            content = content_in(self.backend.read(name))
            _check_key(content.get("key"), key)
            return Record(**content)
        except FileNotFoundError:
            return None
        except Damaged as error:
            sentence = f"is damaged ({error}); it is computed again"
        except TypeError as error:
            sentence = f"is not a record of this version ({error}); it is computed again"
        self._name_damage(name, f"{self.backend.shown(name)} {sentence}")
        return None

    def _name_damage(self, name: str, sentence: str) -> None:
        """Add a sentence to `damaged`, once until the value changes."""
        try:
            stamp = self.backend.stamp(name)
        except OSError:
            stamp = None
        if (name, stamp) not in self._named:
            self._named.add((name, stamp))
            self.damaged.append(sentence)


def _check_key(found: object, key: str | None) -> None:
    if key is not None and found != key:
        raise Damaged("it belongs to another key")
