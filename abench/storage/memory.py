"""A store in the memory of one process (`abench.storage.backend`), e.g. for scores that nobody keeps.

Libraries that read or write files, and reports, use a temporary folder, which is removed with the store.
"""

import hashlib
import shutil
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from abench.errors import UserError
from abench.sanitize.secrets import hidden
from abench.storage.claims import Lease
from abench.storage.faults import writing
from abench.storage.memory_leases import MemoryLeases
from abench.storage.sealed import Stamp


class _Value(NamedTuple):
    content: bytes
    stamp: Stamp


class MemoryBackend:
    """Values of one process; its threads may share them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._values: dict[str, _Value] = {}
        self._written = 0
        self.leases = MemoryLeases(self._lock)

    @property
    def place(self) -> str:
        raise UserError(
            "results in memory cannot be shared with other processes: give a folder for the results"
        )

    def shown(self, name: str) -> str:
        return f"memory:{name}"

    def is_there(self) -> bool:
        return True

    def is_writable(self) -> bool:
        return True

    def exists(self, name: str) -> bool:
        with self._lock:
            return name in self._values or bool(self._files(name))

    def read(self, name: str) -> bytes:
        return self._value(name).content

    def stamp(self, name: str) -> Stamp:
        return self._value(name).stamp

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.read(name)).hexdigest()

    def write(self, name: str, text: str, *, lease: Lease | None = None) -> None:
        content = hidden(text).encode()
        with self._lock, lease.commit() if lease else nullcontext():
            self._drop(name)
            self._put(name, content)

    def remove(self, name: str, *, lease: Lease | None = None) -> None:
        with self._lock, lease.commit() if lease else nullcontext():
            self._drop(name)

    def names(self, prefix: str, depth: int) -> list[str]:
        above = prefix.split("/") if prefix else []
        with self._lock:
            parts = [name.split("/") for name in self._values]
        length = len(above) + depth
        found = {tuple(p[:length]) for p in parts if len(p) >= length and p[: len(above)] == above}
        return ["/".join(each) for each in sorted(found)]

    def now_ns(self) -> int:
        return time.time_ns()

    def draft(self, name: str, *, lease: Lease | None = None) -> Path:
        # In a folder of its lease, so that `clear` knows whose it is.
        above = self._temporary / "drafts" / (uuid.uuid4().hex if lease is None else lease.token)
        draft = above / name.replace("/", "-")
        with writing(draft):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        if lease is None:
            self._unleased.add(above.name)
        return draft

    def publish(
        self, draft: Path, name: str, *, lease: Lease | None = None, previous: str | None = None
    ) -> None:
        with writing(draft):
            files = {file.name: file.read_bytes() for file in draft.iterdir()}
        with self._lock, lease.commit() if lease else nullcontext():
            if previous is not None:
                self._rename(name, previous)
            self._drop(name)
            for file, content in files.items():
                self._put(f"{name}/{file}", content)
        shutil.rmtree(draft, ignore_errors=True)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with self._lock:
            files = self._files(name)
        if not files:
            raise FileNotFoundError(self.shown(name))
        with tempfile.TemporaryDirectory(dir=self._temporary) as copy:
            for file, value in files.items():
                (Path(copy) / file).write_bytes(value.content)
            yield Path(copy)

    def folder(self, name: str) -> Path:
        return self._temporary / "folders" / name

    def clear(self, leased: Collection[str], others: Collection[str]) -> None:
        # Unlike in a folder, a draft without a lease is this process's own, so none of those is left over.
        del leased, others
        with suppress(FileNotFoundError):
            for drafts in (self._temporary / "drafts").iterdir():
                if drafts.name not in self._unleased and drafts.name not in self.leases.tokens():
                    shutil.rmtree(drafts, ignore_errors=True)

    @cached_property
    def _temporary(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="abench-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    @cached_property
    def _unleased(self) -> set[str]:
        return set()

    def _value(self, name: str) -> _Value:
        with self._lock:
            if name not in self._values:
                raise FileNotFoundError(self.shown(name))
            return self._values[name]

    def _files(self, bundle: str) -> dict[str, _Value]:
        """The values of a bundle, by the names of its files."""
        above = f"{bundle}/"
        return {n.removeprefix(above): v for n, v in self._values.items() if n.startswith(above)}

    def _drop(self, name: str) -> None:
        self._values.pop(name, None)
        for file in self._files(name):
            del self._values[f"{name}/{file}"]

    def _rename(self, name: str, other: str) -> None:
        if files := self._files(name):
            self._drop(other)
            self._values |= {f"{other}/{file}": value for file, value in files.items()}

    def _put(self, name: str, content: bytes) -> None:
        self._written += 1
        now = time.time_ns()
        self._values[name] = _Value(content, Stamp(self._written, len(content), now, now))
