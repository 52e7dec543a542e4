"""Files that are being written in a folder, and removing those that ended processes have left.

Files being written under a lease have the lease's token in their hidden names. A token that no lease holds
can no longer commit anything, so its files are removed, whether or not their writer still runs. Other hidden
files, which are written quickly and without a lease, are removed once they are a day old.
"""

import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from abench.storage.faults import StorageError
from abench.storage.files import remove
from abench.storage.lease import Leases

_DRAFT = re.compile(r"\..+\.([0-9a-f]{32})")
_DAY_SECONDS = 24 * 3600.0


def is_draft(name: str) -> bool:
    """Whether this is the name of a file or folder that is being written (`hidden_name`)."""
    return name[0] == "." and _DRAFT.fullmatch(name) is not None


def clear_drafts(root: Path, leases: Leases, leased: Collection[str], others: Collection[str]) -> None:
    """Remove stale leases, and drafts that can no longer be committed.

    Below the folders `leased`, all drafts are written under leases; below `others` and directly in `root`,
    without. A folder that cannot be written stays unchanged: leftovers do no harm.
    """
    with suppress(StorageError, OSError):
        # Drafts are listed first, so that a draft begun later is never removed.
        drafts = [path for part in leased for path in _drafts(root / part)]
        living = leases.clear()
        for draft in drafts:
            if living is not None and _token(draft) not in living:
                remove(draft, all_or_error=False)
        for draft in [
            *(path for part in others for path in _drafts(root / part)),
            *_drafts(root, deep=False),
        ]:
            if time.time() - draft.lstat().st_mtime > _DAY_SECONDS:
                remove(draft, all_or_error=False)


def _drafts(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    for entry in _entries(folder):
        if is_draft(entry.name):
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
