"""The results folder: the only module that knows its paths.

    abench.json                                     the folder's schema
    saes/MODEL/SITE/LABEL-KEY/                      a trained SAE: sae-lens files, train.csv, sae.json
    cells/MODEL/SITE/LABEL/TASK-VIEW-KEY.json       the scores of one SAE on one task
    checkpoints/KEY/                                training that has not ended
    leases/KEY.json                                 work in progress
    lock                                            held while a lease changes and while a result is renamed
    kept/AB/KEY.json                                what tasks keep beyond one cell, judges' answers included
    reports/NAME/                                   tables and figures

Files are written under another name, flushed to disk and renamed while their writer holds the lease;
`sae.json` marks an SAE as whole. What is damaged is treated as missing and remembered in `damaged`.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from abench.errors import UserError
from abench.files import file_hash, write_whole
from abench.kept import FolderKept
from abench.lease import Lease, LeaseLost, Leases
from abench.leftovers import clear_leftovers
from abench.plan import SCHEMA, Cell, SAEJob, sae_label
from abench.storage import writing

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
        self.leases = Leases(root / "leases", root / "lock")
        self.damaged: list[str] = []
        """Sentences about files that were found damaged and are treated as missing."""
        self._whole: set[tuple[Path, int, int]] = set()
        """Files whose hash was right, with their size and time of change: they are not hashed again."""

    @classmethod
    def open(cls, root: Path, *, create: bool) -> "Store":
        """The results folder at `root`.

        Raises StorageError if it cannot be made (with `create`), and UserError if it does not exist (without)
        or was written by another schema.
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
        return cls(root)

    def check_writable(self) -> None:
        """Raises UserError if nothing can be written to the folder, which is fine as long as it is whole."""
        if not os.access(self.root, os.W_OK):
            raise UserError(
                f"the results folder {self.root} is not writable, and something is missing from it: make it "
                "writable or choose another with --results"
            )

    @staticmethod
    def _create(root: Path) -> None:
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            write_whole(root / _MARK, json.dumps({"schema": SCHEMA}) + "\n")

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

    def put_sae(self, job: SAEJob, record: SAERecord, draft: Path | None, lease: Lease | None = None) -> None:
        """Keep an SAE: the files of the folder `draft`, if any, and its record appear at once.

        Without a lease, takes it for this. Raises LeaseLost if another process holds it, and StorageError.
        """
        folder = self.sae_folder(job)
        with writing(folder), self._leased(job.key, lease) as held:
            draft = draft or self.draft_folder(job, held)
            try:
                write_whole(draft / _SAE_MARK, _to_json(asdict(record)))
                for file in draft.iterdir():
                    _flush(file)
                with held.commit():
                    replaced = _moved_away(folder)
                    draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)

    def draft_folder(self, job: SAEJob, lease: Lease | None = None) -> Path:
        """An empty folder next to the SAE's own, for its files before `put_sae`. Raises StorageError."""
        folder = self.sae_folder(job)
        draft = lease.draft_of(folder) if lease else _hidden(folder)
        with writing(draft):
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

    def put(self, cell: Cell, record: Record, lease: Lease | None = None) -> None:
        """Keep a cell's record. Without a lease, takes it for this.

        Raises LeaseLost if another process holds it, and StorageError.
        """
        file, text = self.cell_file(cell), _to_json(asdict(record))
        with writing(file), self._leased(cell.key, lease) as held:
            write_whole(file, text, lease=held)

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

    def claim(self, key: str) -> AbstractContextManager[Lease | None]:
        """A lease on the work behind a key; gives None if another process holds it. Raises StorageError."""
        return self.leases.claim(key)

    def claimed_by(self, key: str) -> str | None:
        """Which process holds the lease on the work behind a key; None if none does."""
        return self.leases.holder(key)

    @contextmanager
    def _leased(self, key: str, lease: Lease | None) -> Iterator[Lease]:
        if lease is not None:
            yield lease
            return
        with self.claim(key) as own:
            if own is None:
                raise LeaseLost(f"{self.claimed_by(key) or 'another process'} works on {key}")
            yield own

    def clear_leftovers(self) -> None:
        """Remove what processes that died have left behind; never what a living one uses."""
        clear_leftovers(self.root, self.leases, self._is_saved)

    def _is_saved(self, key: str) -> bool:
        for mark in (self.root / "saes").glob(f"*/*/*-{key[:_KEY_DIGITS]}/{_SAE_MARK}"):
            content = self._read(mark, key)
            if content is not None and content.get("status") == "done":
                return all(self._is_whole(mark.with_name(name), h) for name, h in content["files"].items())
        return False

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


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _moved_away(folder: Path) -> Path | None:
    """Free a folder's name in one step, since removing takes longer; where its content is now."""
    if not folder.exists():
        return None
    away = _hidden(folder)
    folder.rename(away)
    return away


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
