"""Files that contain their own checksum, so that damage is detected when they are read.

A sealed file is JSON. Its first line holds the sha256 of all bytes after that line, so every changed bit,
including those of the checksum itself, and every missing byte are detected. Other files, such as weights, are
sealed by a manifest: the sealed record next to them holds the sha256 of each.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from abench.sanitize.secrets import without_secrets
from abench.storage.claims import Lease
from abench.storage.files import file_hash, replace_whole

_BEFORE, _AFTER = b'{"sha256": "', b'",\n'
_DIGITS = 64
_PART = 1 << 16
"""Bytes read at once."""
_LINE = len(_BEFORE) + _DIGITS + len(_AFTER)


class Damaged(Exception):  # noqa: N818 - a state of a file, which its reader treats as missing
    """A file's content is not what was written; the message states the damage, without the file's name."""


class Stamp(NamedTuple):
    """Metadata that change whenever a file is replaced or written to."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """When its metadata last changed, which no program can set back (on Windows: when it was created)."""

    @classmethod
    def of(cls, file: Path | str) -> "Stamp":
        """The stamp of a file; raises OSError."""
        stat = os.stat(file)  # noqa: PTH116 - for very many files, creating Path objects is slower
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def write_sealed(file: Path, content: Mapping[str, Any], *, lease: Lease | None = None) -> None:
    """Write plain JSON with its checksum, atomically and, if a lease is given, only while it is held.

    A folder of this name can only be damage and is removed. Raises OSError; with a lease, LeaseLost and
    StorageError; ValueError or TypeError for content that is empty or not plain JSON.
    """
    replace_whole(file, sealed_text(content), lease=lease)


def sealed_text(content: Mapping[str, Any]) -> str:
    """The text of a sealed file: JSON whose first line holds the checksum of the rest."""
    if not content or "sha256" in content:
        raise ValueError("a sealed file needs content, without the key 'sha256', which holds the checksum")
    # Secrets are removed before the checksum is computed, because the file is written without them.
    rest = json.dumps(without_secrets(content), indent=1, allow_nan=False).removeprefix("{\n") + "\n"
    digest = hashlib.sha256(rest.encode()).hexdigest()
    return f"{_BEFORE.decode()}{digest}{_AFTER.decode()}{rest}"


def read_sealed(file: Path) -> dict[str, Any]:
    """The content of a sealed file, verified against its checksum.

    Raises FileNotFoundError if there is no such file, and Damaged if it cannot be read or was changed.
    """
    return content_of(raw_of(file))


def raw_of(file: Path | str) -> bytes:
    """The bytes of a file; raises FileNotFoundError, and Damaged if they cannot be read."""
    try:
        return _read(file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(f"it cannot be read: {error.strerror or error}") from error


def _read(file: Path | str) -> bytes:
    # A file object takes half as long again as reading a small file.
    number = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        parts = [os.read(number, _PART)]
        while parts[-1]:
            parts.append(os.read(number, _PART))
        return parts[0] if len(parts) == 2 else b"".join(parts)
    finally:
        os.close(number)


def content_of(raw: bytes) -> dict[str, Any]:
    """The content of a sealed file, given its bytes; raises Damaged if they were changed."""
    _check(raw)
    return _content(raw)


def _content(raw: bytes) -> dict[str, Any]:
    content: dict[str, Any] = _parsed(raw)
    del content["sha256"]
    return content


def fields_of(raw: bytes, *names: str) -> list[Any]:
    """Selected fields of a sealed file's content, without parsing all of it; None for a missing field.

    Raises Damaged as `content_of` does.
    """
    _check(raw)
    texts = (cut_out(raw, name)[0] or b"null" for name in names)
    found: list[Any] = _parsed(b"[%b]" % b",".join(texts))
    return found


def rest_of(raw: bytes, *names: str) -> tuple[dict[str, Any], list[bytes | None]]:
    """The content without the named fields, and the JSON of these fields; None for a missing field.

    Raises Damaged as `content_of` does.
    """
    _check(raw)
    texts = []
    for name in names:
        text, raw = cut_out(raw, name)
        texts.append(text)
    return _content(raw), texts


def cut_out(raw: bytes, name: str) -> tuple[bytes | None, bytes]:
    """The JSON of a field, and the file's bytes without it; None and all bytes if the field is missing."""
    # Only the outermost fields are indented by one space, and no JSON string contains a line break.
    return _cut(raw, _name_line(name, 1), b',\n "', b"\n}\n")


def cut_inner(field: bytes, name: str) -> tuple[bytes | None, bytes]:
    """As `cut_out`, for a field within the JSON of an outermost field, other than the first one in it."""
    return _cut(field, _name_line(name, 2), b',\n  "', b"\n }")


def _cut(raw: bytes, before: bytes, between: bytes, last: bytes) -> tuple[bytes | None, bytes]:
    start = raw.find(before)
    if start < 0:
        return None, raw
    end = raw.find(between, start + len(before))
    end = len(raw) - len(last) if end < 0 else end
    return raw[start + len(before) : end], raw[:start] + raw[end:]


@cache
def _name_line(name: str, depth: int) -> bytes:
    return f",\n{' ' * depth}{json.dumps(name)}: ".encode()


def _parsed(text: bytes) -> Any:
    try:
        # Verified content is UTF-8; detecting the encoding would take a third of the time.
        return json.loads(text.decode())
    except ValueError as error:
        raise Damaged(f"it is not JSON: {error}") from error


def _check(raw: bytes) -> None:
    digest = hashlib.sha256(memoryview(raw)[_LINE:]).hexdigest()
    if raw[:_LINE] != b"".join((_BEFORE, digest.encode(), _AFTER)):
        raise Damaged("its checksum does not match its content" if raw else "it is empty")


def manifest_of(folder: Path) -> dict[str, str]:
    """sha256 of each file in a folder, by name."""
    return {file.name: file_hash(file) for file in sorted(folder.iterdir())}


class Verified:
    """Checks files against manifests; a file is hashed again only if its stamp has changed.

    Files are named by their paths, or in any other way that `stamp` and `digest` (sha256) understand.
    """

    def __init__(
        self, stamp: Callable[[Any], Stamp] = Stamp.of, digest: Callable[[Any], str] | None = None
    ) -> None:
        self._stamp_of = stamp
        self._digest_of: Callable[[Any], str] = digest or file_hash
        self._known: dict[Any, tuple[Stamp, str]] = {}

    def stamp(self, file: Path | str) -> Stamp:
        """The stamp that a file had when it was last checked; raises KeyError for another file."""
        return self._known[file][0]

    def check(self, file: Path | str, digest: str) -> None:
        """Raise Damaged unless a file with this sha256 is there."""
        try:
            stamp = self._stamp_of(file)
            known = self._known.get(file)
            if known is None or known[0] != stamp:
                known = self._known[file] = (stamp, self._digest_of(file))
        except FileNotFoundError as error:
            raise Damaged("it is missing") from error
        except OSError as error:
            raise Damaged(f"it cannot be read: {error.strerror or error}") from error
        if known[1] != digest:
            raise Damaged("its checksum does not match its content")
