"""Short critical sections across processes that share a folder, on any file system."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from abench.errors import UserError

WAIT_SECONDS = 60.0
_NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})
_POLL_SECONDS = 0.01


class Held(UserError):  # noqa: N818 - a state of the lock, which its user may wait out
    """Another process has held a lock for the whole time that was waited."""


@contextmanager
def guarded(file: Path, *, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock at `file` during the block; no other process runs a block with the same file meanwhile.

    The operating system releases the lock when its process ends. On file systems without such locks, the lock
    is an exclusively created file, which filelock removes once its process has ended. Keep sections short:
    read and rename, do not compute. Creates the folder. Raises Held if another process holds the lock for
    `wait` seconds, and OSError if the lock file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = _acquired(file, wait)
    try:
        yield
    finally:
        lock.release()


def _acquired(file: Path, wait: float) -> BaseFileLock:
    # By default filelock falls back with a warning, and only for one of the errors that mean "no flock".
    lock: BaseFileLock = FileLock(file, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=wait, poll_interval=_POLL_SECONDS)
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in _NO_FLOCK:
                raise
            # Under another name, because the file of the failed attempt would count as a held lock.
            lock = SoftFileLock(file.with_name(f"{file.name}.soft"))
            lock.acquire(timeout=wait, poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise Held(
            f"another process has held the lock {file} for {wait:.0f} seconds: end that process, or delete "
            "the file if no process uses the folder"
        ) from error
    return lock
