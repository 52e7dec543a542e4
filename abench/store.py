"""The results folder: the only module that knows its paths.

    abench.json                                     the folder's schema
    saes/MODEL/SITE/LABEL-KEY/                      a trained SAE: sae-lens files, train.csv, sae.json
    cells/MODEL/SITE/LABEL/TASK-VIEW-KEY.json       the scores of one SAE on one task
    checkpoints/KEY/                                training that has not ended
    leases/KEY.json                                 work in progress
    kept/AB/KEY.json                                what tasks keep beyond one cell, judges' answers included
    reports/NAME/                                   tables and figures

Files are written under another name, flushed to disk and renamed; `sae.json` comes last and marks an SAE
as whole. What is damaged is treated as missing and remembered in `damaged`.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from abench.errors import UserError
from abench.files import file_hash, write_whole
from abench.kept import FolderKept
from abench.lease import holder, lease
from abench.plan import SCHEMA, Cell, SAEJob, sae_label

Status = Literal["done", "failed", "skipped", "missing"]
CURVE_FILE = "train.csv"
_MARK = "abench.json"
_SAE_MARK = "sae.json"
_KEY_DIGITS = 12


@dataclass(frozen=True)
class Record:
    """What is kept of one cell, and handed to reports."""

    key: str
    status: Status
    labels: dict[str, Any]
    metrics: list[dict[str, Any]]
    """The metrics the task declares."""
    scores: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """What the task gave for figures beside its scores; plain JSON."""
    used: list[dict[str, Any]] = field(default_factory=list)
    """How much data the task used, of how much was requested: `what`, `used`, `requested` (abench.Amount)."""
    reason: str | None = None
    """Why it failed or was skipped: one sentence."""
    traceback: str | None = None
    limited: bool = False
    sae_key: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    """What the key is the hash of."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """What is recorded but cannot change the number: device, host, packages, seconds, ..."""
    schema: int = SCHEMA


@dataclass(frozen=True)
class SAERecord:
    """What is kept of one trained SAE beside its files."""

    key: str
    status: Literal["done", "failed"]
    labels: dict[str, Any]
    spec: dict[str, Any]
    reason: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """sha256 of each file, by name."""
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


class Store:
    """A results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.damaged: list[str] = []
        """Sentences about files that were found damaged and are treated as missing."""
        self._whole: set[tuple[Path, int, int]] = set()
        """Files whose hash was right, with their size and time of change: they are not hashed again."""

    @classmethod
    def open(cls, root: Path, *, create: bool) -> "Store":
        """The results folder at `root`.

        Raises UserError if it cannot be written (with `create`), does not exist (without), or was written
        by another schema.
        """
        mark = root / _MARK
        if not mark.exists():
            if not create:
                raise UserError(f"{root} is not a results folder: it has no {_MARK}; `abench run` makes one")
            cls._create(root)
        try:
            schema = json.loads(mark.read_text(encoding="utf-8"))["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{mark} cannot be read: {error}") from error
        if schema != SCHEMA:
            raise UserError(
                f"{root} was written by another version of abench (schema {schema}, this one has {SCHEMA}): "
                "choose another folder with --results"
            )
        if create and not os.access(root, os.W_OK):
            raise UserError(f"the results folder {root} is not writable: choose another with --results")
        return cls(root)

    @staticmethod
    def _create(root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            write_whole(root / _MARK, json.dumps({"schema": SCHEMA}) + "\n")
        except OSError as error:
            raise UserError(
                f"the results folder {root} cannot be written ({error.strerror}): "
                "choose another with --results"
            ) from error

    # Trained SAEs

    def sae_folder(self, job: SAEJob) -> Path:
        place = self.root / "saes" / job.model.name / job.site
        return place / f"{job.label}-{job.key[:_KEY_DIGITS]}"

    def sae_folder_of(self, record: Record) -> Path:
        """Where the SAE of a cell's record lies."""
        labels = record.labels
        place = self.root / "saes" / str(labels["model"]) / str(labels["site"])
        return place / f"{sae_label(labels)}-{record.sae_key[:_KEY_DIGITS]}"

    def get_sae(self, job: SAEJob) -> SAERecord | None:
        """The record of a trained (or failed) SAE whose files are whole; None if it has to be trained."""
        folder = self.sae_folder(job)
        content = self._read(folder / _SAE_MARK, job.key)
        if content is None:
            return None
        record = SAERecord(**content)
        for name, digest in record.files.items():
            if not self._is_whole(folder / name, digest):
                self.damaged.append(f"{folder / name} is damaged or gone; the SAE is trained again")
                return None
        return record

    def _is_whole(self, file: Path, digest: str) -> bool:
        try:
            stat = file.stat()
            seen = (file, stat.st_size, stat.st_mtime_ns)
            if seen not in self._whole and file_hash(file) != digest:
                return False
        except OSError:
            return False
        self._whole.add(seen)
        return True

    def put_sae(self, job: SAEJob, record: SAERecord, draft: Path | None) -> None:
        """Keep an SAE: the files of the folder `draft`, if any, then its record as the commit mark."""
        folder = self.sae_folder(job)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        if draft is None:
            folder.mkdir()
        else:
            for file in draft.iterdir():
                _flush(file)
            draft.rename(folder)
        write_whole(folder / _SAE_MARK, _to_json(asdict(record)))

    def draft_folder(self, job: SAEJob) -> Path:
        """An empty folder beside the SAE's own, to write its files to before `put_sae`."""
        folder = self.sae_folder(job)
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        return draft

    def checkpoint_folder(self, job: SAEJob) -> Path:
        return self.root / "checkpoints" / job.key

    # Cells

    def cell_file(self, cell: Cell) -> Path:
        place = self.root / "cells" / cell.sae.model.name / cell.sae.site / cell.sae.label
        return place / f"{cell.label}-{cell.key[:_KEY_DIGITS]}.json"

    def get(self, cell: Cell) -> Record | None:
        """The record of a cell; None if there is none, or none that is whole."""
        content = self._read(self.cell_file(cell), cell.key)
        return None if content is None else self._record(self.cell_file(cell), content)

    def _record(self, file: Path, content: dict[str, Any]) -> Record | None:
        try:
            return Record(**content)
        except TypeError as error:
            self.damaged.append(f"{file} is not a record of this version ({error}); it is computed again")
            return None

    def put(self, cell: Cell, record: Record) -> None:
        write_whole(self.cell_file(cell), _to_json(asdict(record)))

    def find(self, name: str) -> list[Path]:
        """The files of cells whose key begins with, or whose path ends in, `name`."""
        exact = Path(name)
        if exact.is_file():
            return [exact]
        files = sorted((self.root / "cells").glob("*/*/*/*.json"))
        digits = name[:_KEY_DIGITS]
        return [f for f in files if f.stem.rpartition("-")[2].startswith(digits) or str(f).endswith(name)]

    def all_records(self) -> Iterator[tuple[Path, Record]]:
        """Every whole cell in the folder, whatever run it belongs to."""
        for file in sorted((self.root / "cells").glob("*/*/*/*.json")):
            record = self.read(file)
            if record is not None:
                yield file, record

    def read(self, file: Path) -> Record | None:
        """The record in one cell file; None if it is damaged."""
        content = self._read(file, None)
        return None if content is None else self._record(file, content)

    # Work in progress

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """A lease on the work behind a key; gives False if another process holds it."""
        return lease(self.root / "leases" / f"{key}.json")

    def claimed_by(self, key: str) -> str | None:
        return holder(self.root / "leases" / f"{key}.json")

    def kept(self) -> FolderKept:
        """What tasks keep beyond one cell."""
        return FolderKept(self.root / "kept")

    def report_folder(self, name: str) -> Path:
        return self.root / "reports" / name

    def _read(self, file: Path, key: str | None) -> dict[str, Any] | None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if key is not None and content["key"] != key:
                raise ValueError("it holds the result of another key")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.damaged.append(f"{file} is damaged ({error}); it is computed again")
            return None
        result: dict[str, Any] = content
        return result


def find_sae(results: Path, name: str) -> tuple[Path, SAERecord]:
    """The folder and record of a trained SAE: by its folder, or the beginning of its key or of a cell's.

    Raises UserError if there is none, or several.
    """
    if (Path(name) / _SAE_MARK).is_file():
        return Path(name), _sae_record(Path(name))
    store = Store.open(results, create=False)
    folders = (mark.parent for mark in sorted((store.root / "saes").glob(f"*/*/*/{_SAE_MARK}")))
    digits = name[:_KEY_DIGITS]
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
    return folder, _sae_record(folder)


def _sae_record(folder: Path) -> SAERecord:
    try:
        record = SAERecord(**json.loads((folder / _SAE_MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / _SAE_MARK} cannot be read: {error}") from error
    if record.status == "failed":
        raise UserError(f"the SAE in {folder} could not be trained: {record.reason}")
    return record


def _to_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
