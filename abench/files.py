"""Files whose name always stands for their whole content, and hashes of them."""

import hashlib
import os
import uuid
from pathlib import Path

from abench.secrets import hidden


def write_whole(file: Path, text: str) -> None:
    """Write a text under another name, flush it to disk, rename it. Makes the folder; raises OSError.

    No secret gets into the file, whoever calls this. Secrets must be taken out of a text that holds its own
    checksum before that sum is made (`without_secrets`).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(hidden(text))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def file_hash(file: Path) -> str:
    """sha256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
