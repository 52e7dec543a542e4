"""What was found in verified files, so that unchanged ones need not be read again, even by other processes.

    findings.json   per file: its name after a slash, a short text about its content, and its stamp

The index is no source of truth: a file whose stamp is another is read again, and if the index is damaged,
missing, or written by several processes at once, only time is lost. It is used from the moment when a process
has had to read much, so small folders have none.
"""

import time
from contextlib import suppress

from abench.storage.backend import Backend
from abench.storage.faults import StorageError
from abench.storage.sealed import Damaged, Stamp, content_of, sealed_text

FILE = "findings.json"
MUCH = 8 << 20
"""Bytes read (about 2,000 records) from which the index is worth its own time."""

_COLUMNS = ("paths", "texts", *Stamp._fields)
_BETWEEN = "\n"
_FORMAT = 1
_SETTLED_NS = 3_000_000_000
"""Age from which a change of a file certainly gives it another date, on all usual file systems."""


class Findings:
    """Texts about verified values of a store, by name, each as long as its value is unchanged."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._known: dict[str, tuple[Stamp, str]] = {}
        """Name -> (stamp, text)."""
        self._opened = time.monotonic_ns()
        self._loaded = False
        self._new = 0
        """Bytes read by this process for what the index did not hold."""
        self.damage: str | None = None
        """Why the index cannot be used; None if it can, or there is none."""

    def text(self, name: str, stamp: Stamp) -> str | None:
        """What was found in a value that now has this stamp; None if that is unknown."""
        known = self._known.get(name)
        if known is None and not self._loaded and self._new > MUCH:
            self._load()
            known = self._known.get(name)
        return known[1] if known is not None and known[0] == stamp else None

    def add(self, name: str, stamp: Stamp, text: str) -> None:
        """Remember what was found in a value that was read after this stamp was taken."""
        self._known[name] = (stamp, text)
        self._new += stamp.size

    def forget(self, name: str) -> None:
        """Drop what was found in a value that is not there any more."""
        self._known.pop(name, None)

    def save(self) -> None:
        """Write the index if this process has read much that it did not hold.

        A store that cannot be written stays without: the next process reads the files again.
        """
        if self._new > MUCH or self.damage is not None:
            with suppress(StorageError):
                self._write()
                self._new, self.damage = 0, None

    def _write(self) -> None:
        until = self._settled_until()
        rows = [
            (f"/{name}", text, *stamp)
            for name, (stamp, text) in self._known.items()
            if max(stamp.modified_ns, stamp.changed_ns) < until and _BETWEEN not in name + text
        ]
        # Columns of text, because a JSON encoder and a parser take much longer for very many small values.
        columns = zip(*rows, strict=True) if rows else ((),) * len(_COLUMNS)
        texts = (_BETWEEN.join(map(str, column)) for column in columns)
        content = {"format": _FORMAT, **dict(zip(_COLUMNS, texts, strict=True))}
        self._backend.write(FILE, sealed_text(content))

    def _settled_until(self) -> int:
        """The date before which files were last changed if a later change must have changed their stamp.

        A file that changes twice within the resolution of its dates keeps its stamp. What was found in files
        that had just changed when this process began is therefore not stored. The clock is the store's.
        """
        return self._backend.now_ns() - (time.monotonic_ns() - self._opened) - _SETTLED_NS

    def _load(self) -> None:
        self._loaded = True
        try:
            content = content_of(self._backend.read(FILE))
            if content.get("format") != _FORMAT:
                return
            columns = [content[name].split(_BETWEEN) for name in _COLUMNS]
            paths, texts, *numbers = columns
            names = [path.removeprefix("/") for path in paths]
            stamps = map(Stamp, *(map(int, column) for column in numbers))
            found = dict(zip(names, zip(stamps, texts, strict=True), strict=True))
        except FileNotFoundError:
            return
        except (Damaged, KeyError, ValueError, AttributeError) as error:
            self.damage = str(error) if isinstance(error, Damaged) else "it is not an index of this version"
            return
        own = self._known
        self._known = found | own
        self._new = sum(each[0].size for name, each in own.items() if found.get(name) != each)
