"""Removing files that ended processes have left in a results folder.

Files being written under a lease have the lease's token in their hidden names. A token that no lease holds
can no longer commit anything, so its files are removed, whether or not their writer still runs. Other hidden
files, which are written quickly and without a lease, are removed once they are a day old.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from abench.storage.faults import StorageError
from abench.storage.files import remove
from abench.storage.lease import LeaseLost, Leases

_DRAFT = re.compile(r"\..+\.([0-9a-f]{32})")
_KEY = re.compile(r"[0-9a-f]{64}")
_DAY_SECONDS = 24 * 3600.0


def clear_leftovers(root: Path, leases: Leases, is_saved: Callable[[str], bool]) -> None:
    """Remove stale leases, drafts that can no longer be committed, and checkpoints of saved SAEs.

    `is_saved(key)` returns whether the SAE of a key is complete. A folder that cannot be written stays
    unchanged: leftovers do no harm.
    """
    with suppress(StorageError, OSError):
        # Drafts are listed first, so that a draft begun later is never removed.
        drafts = [path for part in ("cells", "saes", "checkpoints") for path in _drafts(root / part)]
        living = leases.clear()
        for draft in drafts:
            if living is not None and _token(draft) not in living:
                remove(draft, all_or_error=False)
        for draft in [*_drafts(root / "kept"), *_drafts(root, deep=False)]:
            if time.time() - draft.lstat().st_mtime > _DAY_SECONDS:
                remove(draft, all_or_error=False)
        for key in [each.name for each in _entries(root / "checkpoints") if _KEY.fullmatch(each.name)]:
            if is_saved(key):
                _clear_checkpoint(root / "checkpoints", key, leases)


def _clear_checkpoint(folder: Path, key: str, leases: Leases) -> None:
    with leases.claim(key) as lease, suppress(LeaseLost):
        if lease is not None:
            with lease.commit():
                for entry in _entries(folder):
                    if entry.name == key or entry.name.startswith(f".{key}."):
                        remove(Path(entry), all_or_error=False)


def _drafts(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    for entry in _entries(folder):
        if _DRAFT.fullmatch(entry.name):
            yield Path(entry)
        elif deep and entry.is_dir(follow_symlinks=False):
            yield from _drafts(Path(entry))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    # scandir gets the type of each entry from the listing; a stat per file takes ten times as long.
    try:
        return list(os.scandir(folder))
    except FileNotFoundError:
        return []


def _token(draft: Path) -> str:
    return draft.name.rpartition(".")[2]
