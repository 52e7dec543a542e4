"""Leases: processes that share a results folder neither duplicate work nor overwrite each other's results.

A lease is a file that names its holder and a token; its modification time is the holder's heartbeat. It may
be taken over when its process has ended, when it is damaged, or when the process that wants it has observed
no heartbeat for a minute of its own monotonic clock. Dates are not compared for this, because hosts' clocks
differ by minutes, and on some file systems they date the files. Only a lease that is a day older than a file
written now counts as abandoned without being observed.

A process that was suspended for that long does not know that it lost its lease. Results are therefore renamed
into place only inside `FileLease.commit`, which checks that the file still holds this lease's token. Taking,
taking over, releasing and committing all happen in one critical section (`abench.storage.locks.guarded`), so
no other process can take the lease between the check and the rename. Tokens are random and never reused: a
lease that others have taken and released in the meantime is recognised as lost, too.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from abench.errors import UserError
from abench.storage.claims import LeaseLost
from abench.storage.faults import writing
from abench.storage.lease_file import LeaseFile, Seen, lease_text
from abench.storage.locks import guarded
from abench.storage.processes import ProcessId

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""How long a process observes a lease without a heartbeat before it takes the lease over."""
ABANDONED_SECONDS = 24 * 3600.0
"""A difference of dates that clocks which are set wrong do not explain."""
_ENDED = "its process has ended"


class FileLease:
    """A lease that is a file (`abench.storage.claims`)."""

    def __init__(self, file: LeaseFile, token: str, guard: Path) -> None:
        self.token = token
        """Unique to this lease; part of the hidden names of files being written under it."""
        self._file, self._guard = file, guard
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost; does not read the file."""
        return self._lost

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Rename a result into place inside this block. Raises LeaseLost and StorageError."""
        with writing(self._file.path), guarded(self._guard):
            if not self._is_ours():
                raise LeaseLost(f"another process has taken over the lease {self._file.path}")
            yield

    def beat(self) -> None:
        """Send a heartbeat, unless the lease is lost."""
        try:
            there = self._file.touch(self.token)
        except OSError:
            # The file system does not let a date be set, but it dates a file that is written again.
            self._write_again()
        else:
            self._lost = self._lost or not there

    def _write_again(self) -> None:
        # A heart that misses a beat goes on: if others take over for that, `commit` finds out.
        with suppress(UserError, OSError), guarded(self._guard):
            if self._is_ours():
                with _drafted(self._file.path, self.token) as draft:
                    draft.replace(self._file.path)

    def release(self) -> None:
        """Give the lease back, unless it is lost."""
        with writing(self._file.path), guarded(self._guard):
            if self._is_ours():
                self._file.path.unlink()

    def _is_ours(self) -> bool:
        seen = self._file.look()
        self._lost = self._lost or seen is None or seen.token != self.token
        return not self._lost


class Leases:
    """The leases in a folder. `guard` is the lock file of the critical section in which they change."""

    def __init__(self, folder: Path, guard: Path) -> None:
        self._folder, self._guard = folder, guard
        self._observed: dict[str, tuple[Seen, float]] = {}
        """Lease name -> its last observed state, and since when it has been observed."""
        self.notices: list[str] = []
        """Sentences about leases that were taken over although their process may still be running."""

    @contextmanager
    def claim(self, name: str) -> Iterator[FileLease | None]:
        """Hold the lease `name` during the block; yields None if another process holds it.

        Raises StorageError if the folder cannot be written.
        """
        lease = self._take(name)
        if lease is None:
            yield None
            return
        stop = threading.Event()
        heart = threading.Thread(target=_beat, args=(lease, stop), daemon=True, name=f"lease {name}")
        heart.start()
        try:
            yield lease
        finally:
            stop.set()
            heart.join()
            # Without heartbeats the lease goes stale anyway, and a success must not become a failure here.
            with suppress(UserError):
                lease.release()

    def holder(self, name: str) -> str | None:
        """The holder of a lease, as `host, process 123`; None if it is free."""
        try:
            seen = self._file(name).look()
        except OSError:
            return None  # for display only; claiming the lease raises the error
        if seen is None or seen.owner is None or self._why_stale(name, seen, time.time_ns()) is not None:
            return None
        return _named(seen)

    def holders(self) -> dict[str, str]:
        """The holders of all leases that are held, by lease name; for display, as `holder`."""
        with suppress(OSError):
            names = [path.stem for path in self._folder.iterdir() if not path.name.startswith(".")]
            return {name: who for name in names if (who := self.holder(name)) is not None}
        return {}

    def clear(self) -> set[str] | None:
        """Remove stale leases and drafts left by ended processes; returns the tokens of live leases.

        None if a live lease cannot be read. Raises StorageError.
        """
        if not self._folder.is_dir() or not any(self._folder.iterdir()):
            return set()
        with (
            writing(self._folder),
            guarded(self._guard),
            _drafted(self._folder / "clock", uuid.uuid4().hex) as draft,
        ):
            now = draft.stat().st_mtime_ns
            others = [path for path in self._folder.iterdir() if path != draft]
            left = [seen.token for path in others if (seen := self._cleared(path, now)) is not None]
            tokens = {token for token in left if token is not None}
            return tokens if len(tokens) == len(left) else None

    def _cleared(self, path: Path, now: int) -> Seen | None:
        """The lease if it stays; None if it was removed."""
        file = LeaseFile(path)
        seen = file.look()
        # Leases are drafted and renamed in this section, so no other process is using this draft.
        if path.name.startswith("."):
            file.remove()
        elif seen is not None and (reason := self._why_stale(path.stem, seen, now)) is not None:
            self._notice(path, seen, reason)
            file.remove()
        else:
            return seen
        return None

    def _take(self, name: str) -> FileLease | None:
        file, token = self._file(name), uuid.uuid4().hex
        with writing(file.path), guarded(self._guard), _drafted(file.path, token) as draft:
            seen = file.look()
            if seen is not None:
                reason = self._why_stale(name, seen, draft.stat().st_mtime_ns)
                if reason is None:
                    return None
                self._notice(file.path, seen, reason)
                if seen.is_folder:
                    file.remove()
            draft.replace(file.path)
        self._observed.pop(name, None)
        return FileLease(file, token, self._guard)

    def _why_stale(self, name: str, seen: Seen, now_ns: int) -> str | None:
        """Why the lease may be taken over; None if it must be respected."""
        if seen.broken is not None:
            return seen.broken
        if seen.owner is not None and seen.owner.has_ended():
            return _ENDED
        unchanged, dated = self._unchanged_seconds(name, seen), (now_ns - seen.beat_ns) / 1e9
        if unchanged <= STALE_SECONDS and dated <= ABANDONED_SECONDS:
            return None
        silent = unchanged if unchanged > STALE_SECONDS else dated
        return f"no sign of life for {silent:,.0f} seconds"

    def _unchanged_seconds(self, name: str, seen: Seen) -> float:
        """For how long this process has observed the lease in this state, by its monotonic clock."""
        before = self._observed.get(name)
        if before is None or before[0] != seen:
            self._observed[name] = (seen, time.monotonic())
            return 0.0
        return time.monotonic() - before[1]

    def _notice(self, path: Path, seen: Seen, reason: str) -> None:
        if reason != _ENDED:
            whose = f" of {_named(seen)}" if seen.owner is not None else ""
            self.notices.append(f"took over the lease {path}{whose}: {reason}")

    def _file(self, name: str) -> LeaseFile:
        return LeaseFile(self._folder / f"{name}.json")


@contextmanager
def _drafted(file: Path, token: str) -> Iterator[Path]:
    """A lease of this process under a hidden name, which the file system dates as of now."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{token}")
    try:
        draft.write_text(lease_text(token, ProcessId.current()), encoding="utf-8")
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _beat(lease: FileLease, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS) and not lease.lost:
        lease.beat()


def _named(seen: Seen) -> str | None:
    return None if seen.owner is None else f"{seen.owner.host}, process {seen.owner.pid}"
