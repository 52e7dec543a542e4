"""What the disk under a results folder refuses, as a sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from abench.errors import UserError

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class StorageError(UserError):
    """A file could not be written: a full disk, a read-only folder, a server that went away.

    It says nothing about the cell or the SAE that was being written, so it ends the run instead of becoming
    their result; the same command goes on from what had been written before.
    """

    def __init__(self, message: str, *, read_only: bool = False) -> None:
        super().__init__(message)
        self.read_only = read_only
        """Whether writing is not allowed at all, as opposed to having failed this time."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Raise StorageError for what the disk refuses while the block writes `place`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, place) from error
    except SafetensorError as error:
        # safetensors writes by itself and puts what the operating system answers into a text.
        if "Os {" not in str(error) and "I/O error" not in str(error):
            raise
        raise StorageError(_sentence(place, str(error))) from error


def storage_error(error: OSError, place: Path) -> StorageError:
    """The StorageError for an OSError that was raised while `place` was being written."""
    named = next((name for name in (error.filename2, error.filename) if name is not None), place)
    cause = error.strerror or str(error) or type(error).__name__
    return StorageError(_sentence(named, cause), read_only=error.errno in _READ_ONLY)


def _sentence(place: object, cause: str) -> str:
    return (
        f"{place} cannot be written ({cause}): once it can, the same command goes on; "
        "--results chooses another folder"
    )
