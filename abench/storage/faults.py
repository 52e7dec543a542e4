"""Failures to write to a results folder, as sentences."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from abench.errors import UserError

RESULTS_REMEDY = "fix this and run the same command again to resume, or choose another folder with --results"
"""What a user can do if a results folder cannot be written."""

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class StorageError(UserError):
    """A file could not be written: a full disk, a read-only folder, an unreachable server.

    This is not a failure of the cell or SAE that was being written, so it ends the run instead of becoming
    their result. The same command resumes from the files written before.
    """

    def __init__(self, message: str, *, read_only: bool = False) -> None:
        super().__init__(message)
        self.read_only = read_only
        """Whether writing is not permitted at all, as opposed to a failure this time."""


@contextmanager
def writing(place: object, remedy: str = RESULTS_REMEDY) -> Iterator[None]:
    """Raise StorageError, which ends with the remedy, if writing `place` fails in this block."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, place, remedy) from error
    except SafetensorError as error:
        # safetensors writes files itself and puts the operating system's error into a text.
        if "Os {" not in str(error) and "I/O error" not in str(error):
            raise
        raise StorageError(_sentence(place, str(error), remedy)) from error


def storage_error(error: OSError, place: object, remedy: str = RESULTS_REMEDY) -> StorageError:
    """The StorageError for an OSError raised while `place` was being written."""
    named = next((name for name in (error.filename2, error.filename) if name is not None), place)
    cause = error.strerror or str(error) or type(error).__name__
    return StorageError(_sentence(named, cause, remedy), read_only=error.errno in _READ_ONLY)


def _sentence(place: object, cause: str, remedy: str) -> str:
    return f"{place} cannot be written ({cause}): {remedy}"
