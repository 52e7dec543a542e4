"""Files whose name always stands for their whole content, and hashes of them."""

import hashlib
import os
import shutil
import uuid
from contextlib import nullcontext
from pathlib import Path

from abench.lease import Lease
from abench.secrets import hidden

_PART = 1 << 16
"""Bytes that are read and hashed at once."""


def write_whole(file: Path, text: str, *, lease: Lease | None = None) -> None:
    """Write a text under another name, flush it to disk, rename it while `lease`, if given, is held.

    Makes the folder. Raises OSError, and with a lease LeaseLost and StorageError. No secret gets into the
    file, whoever calls this. Secrets must be taken out of a text that holds its own checksum before that sum
    is made (`without_secrets`).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = lease.draft_of(file) if lease else hidden_name(file)
    try:
        write_text(temporary, text)
        flush(temporary)
        with lease.commit() if lease else nullcontext():
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def hidden_name(path: Path) -> Path:
    """A name next to a file or folder that nobody else uses; what dies under it is cleared (leftovers.py)."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def write_text(file: Path, text: str) -> None:
    """Write a text as UTF-8 with the lines' ends as they are, without what is secret; raises OSError.

    For files that nobody else reads meanwhile: `write_whole` is for those that others may.
    """
    file.write_text(hidden(text), encoding="utf-8", newline="")


def file_hash(file: Path) -> str:
    """sha256 of a file's content."""
    digest = hashlib.sha256()
    # hashlib.file_digest makes a buffer of 256 KiB for each file: hashing a small one takes less than that.
    with file.open("rb", buffering=0) as stream:
        while part := stream.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def flush(file: Path) -> None:
    """Make sure that a file's content is on the disk; raises OSError."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def remove(path: Path, *, all_or_error: bool = True) -> None:
    """Remove whatever has this name: a file, a link or a folder with its content; nothing is fine as well.

    Raises OSError; unless `all_or_error`, what is refused within a folder stays, and the rest is removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=not all_or_error)
    else:
        path.unlink(missing_ok=True)
