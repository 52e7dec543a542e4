"""Atomic writing of files, so that a file's name never refers to partial content, and hashes of files."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from abench.sanitize.secrets import hidden
from abench.storage.claims import Lease

_PART = 1 << 16
"""Bytes read and hashed at once."""
_PARTS_AT_ONCE = 1000


def write_whole(file: Path, text: str, *, lease: Lease | None = None) -> None:
    """Write a text atomically: under another name, flushed to disk, then renamed.

    With a lease, the file is only renamed while the lease is held. Creates the folder. Raises OSError and,
    with a lease, LeaseLost and StorageError. Secrets are removed from the text. If the text contains its own
    checksum, they must be removed before the checksum is computed (`without_secrets`).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden_name(file, None if lease is None else lease.token)
    try:
        write_text(temporary, text)
        flush(temporary)
        with lease.commit() if lease else nullcontext():
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def replace_whole(file: Path, text: str, *, lease: Lease | None = None) -> None:
    """As `write_whole`, whatever is there: a folder of this name can only be damage and is removed."""
    if file.is_dir() and not file.is_symlink():
        with lease.commit() if lease else nullcontext():
            remove(file)
    write_whole(file, text, lease=lease)


def hidden_name(path: Path, token: str | None = None) -> Path:
    """The hidden name next to a file or folder under which it is written with a token; None: a new one.

    Leftovers of such names are removed (drafts.py).
    """
    return path.with_name(f".{path.name}.{token or uuid.uuid4().hex}")


def write_text(file: Path, text: str) -> None:
    """Write a text as UTF-8 with unchanged line endings and without secrets; raises OSError.

    Not atomic: for files that no other process reads in the meantime (otherwise use `write_whole`).
    """
    file.write_text(hidden(text), encoding="utf-8", newline="")


def write_parts(file: Path, parts: Iterable[str]) -> None:
    """As `write_text`, without the whole text in memory. No secret may be divided between two parts."""
    rest = iter(parts)
    with file.open("w", encoding="utf-8", newline="") as stream:
        # Hiding has a fixed cost per text.
        while some := list(islice(rest, _PARTS_AT_ONCE)):
            stream.write(hidden("".join(some)))


def file_hash(file: Path) -> str:
    """sha256 of a file's content (64 hex digits)."""
    digest = hashlib.sha256()
    # hashlib.file_digest allocates 256 KiB per file, which takes longer than hashing a small file.
    with file.open("rb", buffering=0) as stream:
        while part := stream.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def flush(file: Path) -> None:
    """Flush a file's content to the disk; raises OSError."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def remove(path: Path, *, all_or_error: bool = True) -> None:
    """Remove the file, the link or the folder with its content at this path, if there is one.

    Raises OSError. Without `all_or_error`, entries of a folder that cannot be removed are skipped.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=not all_or_error)
    else:
        path.unlink(missing_ok=True)
