"""The results folder: the only module that knows its paths.

    abench.json                                     the folder's schema
    saes/MODEL/SITE/LABEL-KEY/                      a trained SAE: sae-lens files, train.csv, sae.json
    cells/MODEL/SITE/LABEL/TASK-VIEW-KEY.json       the scores of one SAE on one task
    checkpoints/KEY/                                training that has not ended
    leases/KEY.json                                 work in progress
    kept/AB/KEY.json                                what tasks keep beyond one cell, judges' answers included
    reports/NAME/                                   tables and figures

Files are written under another name, flushed to disk and renamed, and so is an SAE's folder as a whole.
Every file carries a checksum (`abench.sealed`), or has one in the `sae.json` of its folder, which is checked
when the file is used. What is damaged is treated as missing and remembered in `damaged`.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from abench.errors import UserError
from abench.files import flush, remove
from abench.kept import FolderKept
from abench.lease import holder, lease
from abench.plan import Cell, SAEJob, sae_label
from abench.records import Record as Record
from abench.records import SAERecord as SAERecord
from abench.records import Status as Status
from abench.sae_folder import CURVE_FILE as CURVE_FILE
from abench.sae_folder import MARK, read_sae
from abench.sealed import Damaged, Stamp, Verified, fields_of, raw_of, read_sealed, write_sealed
from abench.store_mark import check_mark

KEY_DIGITS = 12
"""Digits of a key that names of files and folders bear."""


class Store:
    """A results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: list[str] = []
        """Sentences about files that were found damaged and are treated as missing, each once."""
        self._named: set[tuple[Path, Stamp | None]] = set()
        self._verified = Verified()
        self._standings: dict[Path, tuple[Stamp, Status]] = {}
        self._cell_files: dict[str, Path] = {}

    @classmethod
    def open(cls, root: Path, *, create: bool) -> "Store":
        """The results folder at `root`.

        Raises UserError if it cannot be written (with `create`), does not exist (without), or was written
        by another version of abench.
        """
        store = cls(root)
        check_mark(root, create=create, name_damage=store._name_damage)
        if create and not os.access(root, os.W_OK):
            raise UserError(f"the results folder {root} is not writable: choose another with --results")
        return store

    # Trained SAEs

    def sae_folder(self, job: SAEJob) -> Path:
        place = self.root / "saes" / job.model.name / job.site
        return place / f"{job.label}-{job.key[:KEY_DIGITS]}"

    def sae_folder_of(self, record: Record) -> Path:
        """Where the SAE of a cell's record lies."""
        labels = record.labels
        place = self.root / "saes" / str(labels["model"]) / str(labels["site"])
        return place / f"{sae_label(labels)}-{record.sae_key[:KEY_DIGITS]}"

    def get_sae(self, job: SAEJob) -> SAERecord | None:
        """The record of a trained (or failed) SAE whose files are whole; None if it has to be trained."""
        return self._read_sae(job, None)

    def _read_sae(self, job: SAEJob, names: Collection[str] | None) -> SAERecord | None:
        folder = self.sae_folder(job)
        try:
            return read_sae(folder, job.key, self._verified, names=names)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._name_damage(folder / MARK, f"{error}; the SAE is trained again")
            return None

    def sae_standing(self, job: SAEJob) -> Status:
        """Whether an SAE is done, failed, missing (it has no folder) or damaged."""
        record = self.get_sae(job)
        if record is not None:
            return record.status
        return "damaged" if self.sae_folder(job).exists() else "missing"

    def curve_file(self, job: SAEJob) -> Path | None:
        """The training curve of an SAE, as CSV; None if there is none that is whole."""
        record = self._read_sae(job, (CURVE_FILE,))
        there = record is not None and CURVE_FILE in record.files
        return self.sae_folder(job) / CURVE_FILE if there else None

    def put_sae(self, job: SAEJob, record: SAERecord, draft: Path | None) -> None:
        """Keep an SAE: the files of the folder `draft`, if any, and its record appear at once."""
        draft = draft or self.draft_folder(job)
        for file in draft.iterdir():
            flush(file)
        write_sealed(draft / MARK, asdict(record))
        folder = self.sae_folder(job)
        remove(folder)
        draft.rename(folder)

    def draft_folder(self, job: SAEJob) -> Path:
        """An empty folder beside the SAE's own, to write its files to before `put_sae`."""
        folder = self.sae_folder(job)
        draft = folder.with_name(f".{folder.name}.draft")
        remove(draft)
        draft.mkdir(parents=True)
        return draft

    def checkpoint_folder(self, job: SAEJob) -> Path:
        return self.root / "checkpoints" / job.key

    # Cells

    def cell_file(self, cell: Cell) -> Path:
        if cell.key not in self._cell_files:
            sae, name = cell.sae, f"{cell.label}-{cell.key[:KEY_DIGITS]}.json"
            self._cell_files[cell.key] = self.root / f"cells/{sae.model.name}/{sae.site}/{sae.label}/{name}"
        return self._cell_files[cell.key]

    def get(self, cell: Cell) -> Record | None:
        """The record of a cell; None if there is none, or none that is whole."""
        return self._read(self.cell_file(cell), cell.key)

    def standing(self, cell: Cell) -> Status:
        """The status of what `get` would find; a file is read once as long as it stays the same."""
        file = self.cell_file(cell)
        try:
            stamp = Stamp.of(file)
        except OSError:
            return "missing"
        known = self._standings.get(file)
        if known is None or known[0] != stamp:
            known = self._standings[file] = (stamp, self._status_in(file, cell.key))
        return known[1]

    def _status_in(self, file: Path, key: str) -> Status:
        try:
            found, status = fields_of(raw_of(file), "key", "status")
            _check_key(found, key)
        except (FileNotFoundError, Damaged) as error:
            self._name_damage(file, f"{file} is damaged ({error}); it is computed again")
            return "damaged"
        known: Status = status
        return known

    def put(self, cell: Cell, record: Record) -> None:
        write_sealed(self.cell_file(cell), asdict(record))

    def find(self, name: str) -> list[Path]:
        """The files of cells whose key begins with, or whose path ends in, `name`."""
        exact = Path(name)
        if exact.is_file():
            return [exact]
        files = sorted((self.root / "cells").glob("*/*/*/*.json"))
        digits = name[:KEY_DIGITS]
        return [f for f in files if f.stem.rpartition("-")[2].startswith(digits) or str(f).endswith(name)]

    def all_records(self) -> Iterator[tuple[Path, Record]]:
        """Every whole cell in the folder, whatever run it belongs to."""
        for file in sorted((self.root / "cells").glob("*/*/*/*.json")):
            record = self.read(file)
            if record is not None:
                yield file, record

    def read(self, file: Path) -> Record | None:
        """The record in one cell file; None if it is damaged."""
        return self._read(file, None)

    # Work in progress

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """A lease on the work behind a key; gives False if another process holds it."""
        return lease(self.root / "leases" / f"{key}.json")

    def claimed_by(self, key: str) -> str | None:
        return holder(self.root / "leases" / f"{key}.json")

    def kept(self) -> FolderKept:
        """What tasks keep beyond one cell."""
        return FolderKept(self.root / "kept", self._name_damage)

    def report_folder(self, name: str) -> Path:
        return self.root / "reports" / name

    def _read(self, file: Path, key: str | None) -> Record | None:
        try:
            content = read_sealed(file)
            _check_key(content.get("key"), key)
            return Record(**content)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._name_damage(file, f"{file} is damaged ({error}); it is computed again")
        except TypeError as error:
            self._name_damage(file, f"{file} is not a record of this version ({error}); it is computed again")
        return None

    def _name_damage(self, file: Path, sentence: str) -> None:
        """Remember what is damaged; once as long as the file stays as it is."""
        try:
            stamp = Stamp.of(file)
        except OSError:
            stamp = None
        if (file, stamp) not in self._named:
            self._named.add((file, stamp))
            self.damaged.append(sentence)


def _check_key(found: object, key: str | None) -> None:
    if key is not None and found != key:
        raise Damaged("it holds the result of another key")
