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
    temporary = lease.draft_of(file) if lease else file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(hidden(text))
            stream.flush()
            os.fsync(stream.fileno())
        with lease.commit() if lease else nullcontext():
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


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


def remove(path: Path) -> None:
    """Remove whatever has this name: a file, a link or a folder with its content; nothing is fine as well."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
