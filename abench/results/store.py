"""The results folder: the only module that knows its paths.

    abench.json                                     the folder's schema
    saes/MODEL/SITE/LABEL-KEY/                      a trained SAE: sae-lens files, train.csv, sae.json
    cells/MODEL/SITE/LABEL/TASK-VIEW-KEY.json       the scores of one SAE on one task
    checkpoints/KEY/                                checkpoints of unfinished training
    leases/KEY.json                                 work in progress
    findings.json                                   an index of large folders, to read files once
    lock                                            held while a lease changes and while a result is renamed
    drivers/TOKEN.json                              runs that several workers compute (drivers.py)
    kept/AB/KEY.json                                values that tasks cache across cells, e.g. judges' answers
    reports/NAME/                                   tables and figures
    activations/                                    a temporary activation cache, while runs use it

Files, and an SAE's folder as a whole, are written under another name, flushed to disk and renamed while their
writer holds the lease. Every file contains a checksum (`abench.storage.sealed`) or has one in its folder's
`sae.json`, which is verified when the file is used. Damaged files are treated as missing and listed in
`damaged`.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.kept import FolderKept
from abench.names import path_part
from abench.results.jobs import Cell, Job, sae_label
from abench.results.leftovers import clear_leftovers
from abench.results.records import Record as Record
from abench.results.records import SAERecord as SAERecord
from abench.results.records import Status as Status
from abench.results.sae_folder import CURVE_FILE as CURVE_FILE
from abench.results.sae_folder import MARK, read_sae
from abench.results.standings import Standings
from abench.results.store_mark import MARK as STORE_MARK
from abench.results.store_mark import check_mark
from abench.storage.faults import writing
from abench.storage.files import flush, hidden_name, remove
from abench.storage.findings import FILE as INDEX
from abench.storage.lease import Lease, LeaseLost, Leases
from abench.storage.sealed import (
    Damaged,
    Stamp,
    Verified,
    content_of,
    cut_inner,
    raw_of,
    rest_of,
    write_sealed,
)
from abench.training.checkpoint_files import step_of

_part = lru_cache(maxsize=1024)(path_part)

KEY_DIGITS = 12
"""Digits of a key in the names of files and folders."""


class Store:
    """A results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cells = str(root / "cells")
        self.leases = Leases(root / "leases", root / "lock")
        self.damaged: list[str] = []
        """One sentence per damaged file, which is treated as missing."""
        self._named: set[tuple[Path, Stamp | None]] = set()
        self._verified = Verified()
        self._standings = Standings(root, self._verified)
        self._places: dict[str, str] = {}
        self._shared: dict[bytes, Any] = {}

    @classmethod
    def open(cls, root: Path, *, create: bool) -> "Store":
        """The results folder at `root`.

        With `create`, it is created if it does not exist. Raises StorageError if it cannot be created, and
        UserError if it does not exist (without `create`) or was written by another version of abench.
        """
        store = cls(root)
        check_mark(root, create=create, name_damage=store._name_damage)
        return store

    @staticmethod
    def exists(root: Path) -> bool:
        """Whether a results folder has been begun at `root`."""
        return (root / STORE_MARK).exists()

    def remove(self) -> None:
        """Remove everything in the store, as far as that is possible."""
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def notices(self) -> list[str]:
        """Sentences about work that was taken over although its process may still be running."""
        return self.leases.notices

    @property
    def place(self) -> str:
        """What another process opens the same results by."""
        return str(self.root.absolute())

    def check_writable(self) -> None:
        """Raise UserError if the folder is not writable; call only if results are missing."""
        if not os.access(self.root, os.W_OK):
            raise UserError(
                f"the results folder {self.root} is not writable, and results are missing from it: make it "
                "writable or choose another with --results"
            )

    # Trained SAEs

    def sae_folder(self, job: Job) -> Path:
        return self.root / "saes" / f"{self._place(job)}-{job.key[:KEY_DIGITS]}"

    def _place(self, job: Job) -> str:
        """MODEL/SITE/LABEL of an SAE, the path below `saes` and `cells`; validated once, then cached."""
        place = self._places.get(job.key)
        if place is None:
            parts = map(path_part, (job.model.name, job.site, sae_label(job.labels())))
            place = self._places[job.key] = "/".join(parts)
        return place

    def sae_folder_of(self, record: Record) -> Path:
        """The folder of the SAE of a cell's record."""
        labels = record.labels
        place = self.root / "saes" / path_part(labels["model"]) / path_part(labels["site"])
        return place / path_part(f"{sae_label(labels)}-{record.sae_key[:KEY_DIGITS]}")

    def get_sae(self, job: Job) -> SAERecord | None:
        """The record of a trained (or failed) SAE with intact files; None if it must be trained."""
        return self._read_sae(job, None)

    def _read_sae(self, job: Job, names: Collection[str] | None) -> SAERecord | None:
        folder = self.sae_folder(job)
        try:
            return read_sae(folder, job.key, self._verified, names=names)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._name_damage(folder / MARK, f"{error}; the SAE is trained again")
            return None

    def sae_standing(self, job: Job) -> Status:
        """Whether an SAE is done, failed, missing (it has no folder) or damaged.

        As with `standing`, its files are read again only if one of them has changed.
        """
        folder = self.sae_folder(job)
        known = self._standings.of_sae(str(folder), job.key)
        if known is not None:
            return known
        record = self.get_sae(job)  # names the damage
        if record is not None:
            return record.status
        return "damaged" if folder.exists() else "missing"

    def curve_file(self, job: Job) -> Path | None:
        """The CSV file of an SAE's training curve; None if there is none, or it is damaged."""
        record = self._read_sae(job, (CURVE_FILE,))
        there = record is not None and CURVE_FILE in record.files
        return self.sae_folder(job) / CURVE_FILE if there else None

    def put_sae(self, job: Job, record: SAERecord, draft: Path | None, lease: Lease | None = None) -> None:
        """Store an SAE atomically: its record and the files of the folder `draft`, if any.

        Without a lease, takes one for the duration. Raises LeaseLost if another process holds it, and
        StorageError.
        """
        folder = self.sae_folder(job)
        with writing(folder), self._leased(job.key, lease) as held:
            draft = draft or self.draft_folder(job, held)
            try:
                for file in draft.iterdir():
                    flush(file)
                write_sealed(draft / MARK, asdict(record))
                with held.commit():
                    replaced = _moved_away(folder)
                    draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)

    def draft_folder(self, job: Job, lease: Lease | None = None) -> Path:
        """An empty folder next to the SAE's folder, to pass to `put_sae`. Raises StorageError."""
        folder = self.sae_folder(job)
        draft = lease.draft_of(folder) if lease else hidden_name(folder)
        with writing(draft):
            remove(draft)
            draft.mkdir(parents=True)
        return draft

    def checkpoint_folder(self, job: Job) -> Path:
        return self.root / "checkpoints" / job.key

    def checkpoint_step(self, job: Job) -> int | None:
        """The training step of an SAE's newest intact checkpoint; None if there is none."""
        return step_of(self.checkpoint_folder(job))

    @property
    def activations_folder(self) -> Path:
        """The folder of the activation cache of runs that share it between their sites only."""
        return self.root / "activations"

    # Cells

    def cell_file(self, cell: Cell) -> Path:
        return Path(self.cell_path(cell))

    def cell_path(self, cell: Cell) -> str:
        """`cell_file` as text: creating Path objects takes a fifth of the time of reading 20,000 cells."""
        return f"{self._cells}/{self._place(cell.sae)}/{_part(cell.label)}-{cell.key[:KEY_DIGITS]}.json"

    def get(self, cell: Cell) -> Record | None:
        """The record of a cell; None if there is none, or it is damaged."""
        return self._read(self.cell_path(cell), cell.key)

    def get_brief(self, cell: Cell) -> Record | None:
        """As `get`, but without the spec and the traceback, which are most of a record.

        Records with equal metrics share one object, as do those with equal packages in their provenance.
        """
        return self._read(self.cell_path(cell), cell.key, self._brief)

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

        A file is only read if it has changed since this process, or the one that wrote the index, read it.
        """
        file = self.cell_path(cell)
        try:
            return self._standings.of_cell(file, cell.key)
        except FileNotFoundError:
            return "missing"
        except Damaged as error:
            self._name_damage(Path(file), f"{file} is damaged ({error}); it is computed again")
            return "damaged"

    def save_standings(self) -> None:
        """Keep what `standing` and `sae_standing` found in many files for the next process."""
        if (damage := self._standings.damage) is not None:
            file = self.root / INDEX
            self._name_damage(file, f"{file} is damaged ({damage}); it is written again")
        self._standings.save()

    def put(self, cell: Cell, record: Record, lease: Lease | None = None) -> None:
        """Store a cell's record. Without a lease, takes one for the duration.

        Raises LeaseLost if another process holds it, and StorageError.
        """
        file = self.cell_file(cell)
        with writing(file), self._leased(cell.key, lease) as held:
            write_sealed(file, asdict(record), lease=held)

    def find(self, name: str) -> list[Path]:
        """The files of cells whose key begins with `name` or whose path ends with it."""
        exact = Path(name)
        if exact.is_file():
            return [exact]
        files = sorted((self.root / "cells").glob("*/*/*/*.json"))
        digits = name[:KEY_DIGITS]
        return [f for f in files if f.stem.rpartition("-")[2].startswith(digits) or str(f).endswith(name)]

    def all_records(self) -> Iterator[tuple[Path, Record]]:
        """Every intact cell in the folder, with its file, from all runs."""
        for file in sorted((self.root / "cells").glob("*/*/*/*.json")):
            record = self.read(file)
            if record is not None:
                yield file, record

    def read(self, file: Path) -> Record | None:
        """The record in one cell file; None if it is damaged."""
        return self._read(file, None)

    # Work in progress

    def claim(self, key: str) -> AbstractContextManager[Lease | None]:
        """A lease on the work for a key; yields None if another process holds it. Raises StorageError."""
        return self.leases.claim(key)

    def claimed_by(self, key: str) -> str | None:
        """The process that holds the lease on the work for a key; None if none does."""
        return self.leases.holder(key)

    def claims(self) -> dict[str, str]:
        """The processes that hold leases, by the key of their work."""
        return self.leases.holders()

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
        """Remove files left by ended processes; never those in use by a running one."""
        clear_leftovers(self.root, self.leases, self._is_saved)

    def _is_saved(self, key: str) -> bool:
        for mark in (self.root / "saes").glob(f"*/*/*-{key[:KEY_DIGITS]}/{MARK}"):
            with suppress(Damaged, FileNotFoundError):
                return read_sae(mark.parent, key, self._verified).status == "done"
        return False

    def kept(self) -> FolderKept:
        """The cache of values that tasks share across cells."""
        return FolderKept(self.root / "kept", self._name_damage)

    def report_folder(self, name: str) -> Path:
        return self.root / "reports" / path_part(name)

    def _read(
        self, file: Path | str, key: str | None, content_in: Callable[[bytes], dict[str, Any]] = content_of
    ) -> Record | None:
        try:
            content = content_in(raw_of(file))
            _check_key(content.get("key"), key)
            return Record(**content)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._name_damage(Path(file), f"{file} is damaged ({error}); it is computed again")
        except TypeError as error:
            sentence = f"{file} is not a record of this version ({error}); it is computed again"
            self._name_damage(Path(file), sentence)
        return None

    def _name_damage(self, file: Path, sentence: str) -> None:
        """Add a sentence to `damaged`, once until the file changes."""
        try:
            stamp = Stamp.of(file)
        except OSError:
            stamp = None
        if (file, stamp) not in self._named:
            self._named.add((file, stamp))
            self.damaged.append(sentence)


def _check_key(found: object, key: str | None) -> None:
    if key is not None and found != key:
        raise Damaged("it belongs to another key")


def _moved_away(path: Path) -> Path | None:
    """Rename a folder out of the way, because removing it takes longer; its new path, or None if absent."""
    if not os.path.lexists(path):
        return None
    away = hidden_name(path)
    path.rename(away)
    return away
