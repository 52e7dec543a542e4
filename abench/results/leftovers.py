"""Removing what ended processes have left in a store: drafts, stale leases, checkpoints of saved SAEs."""

import re
from collections.abc import Callable
from contextlib import suppress

from abench.storage.backend import Backend
from abench.storage.claims import LeaseLost
from abench.storage.faults import StorageError

CHECKPOINTS = "checkpoints"
_LEASED, _OTHERS = ("cells", "saes", CHECKPOINTS), ("kept",)
_OF_KEY = re.compile(r"([0-9a-f]{64})|\.([0-9a-f]{64})\..+")
"""The last part of the name of a checkpoint, or of what is hidden next to it."""


def clear_leftovers(backend: Backend, is_saved: Callable[[str], bool]) -> None:
    """Remove stale leases, drafts that can no longer be committed, and checkpoints of saved SAEs.

    `is_saved(key)` returns whether the SAE of a key is complete. A store that cannot be written stays
    unchanged: leftovers do no harm.
    """
    backend.clear(_LEASED, _OTHERS)
    found: dict[str, list[str]] = {}
    for name in backend.names(CHECKPOINTS, 1):
        if match := _OF_KEY.fullmatch(name.rpartition("/")[2]):
            found.setdefault(match[1] or match[2], []).append(name)
    for key, names in found.items():
        if f"{CHECKPOINTS}/{key}" in names and is_saved(key):
            with suppress(StorageError, LeaseLost):
                _remove(backend, key, names)


def _remove(backend: Backend, key: str, names: list[str]) -> None:
    with backend.leases.claim(key) as lease:
        if lease is not None:
            for name in names:
                backend.remove(name, lease=lease)
