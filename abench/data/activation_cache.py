"""A cache of what language models compute from rows of tokens, in a folder that processes and hosts share.

An entry is a pure function of its key: the model's weights, what it computes with (`computation.py`), the
site and the token ids of the rows. It knows nothing of texts, blocks, shuffles, filters and normalisations,
so every run that reads the same rows finds them, and an entry can never belong to another text. It also holds
the special tokens and outliers, which training drops.

The cache changes no number and never ends a run: an entry that is damaged or missing is computed, and where
nothing can be written, the run goes on without writing.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from abench.data.cache_folder import ENDING, SET_FILE, Users, make_folder
from abench.data.cache_room import Room
from abench.data.computation import computation_of
from abench.data.readers import computed_rows
from abench.data.shards import read_shard, write_shard
from abench.errors import UserError, outside_cause
from abench.lm.models import LanguageModel
from abench.storage.keys import key_of
from abench.storage.sealed import Damaged, write_sealed

_HEADER = 512
"""Bytes of a shard besides its activations, at most."""


class ActivationCache:
    """The shards in a folder, and how many bytes of them there may be."""

    def __init__(self, folder: Path, room: Room, say: Callable[[str], None], *, writes: bool) -> None:
        self._folder, self._room, self._say, self._writes = folder, room, say, writes

    @classmethod
    @contextmanager
    def open(cls, folder: Path, size: int, say: Callable[[str], None]) -> Iterator["ActivationCache"]:
        """The cache in a folder, of at most `size` bytes, which this process uses during the block.

        `say` receives a sentence for damage and for a folder that cannot be written. Raises UserError for a
        folder that holds something else.
        """
        make_folder(folder)
        users = Users(folder)
        opened = cls(folder, Room(folder, size, users), say, writes=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(users.registered())
            except (OSError, UserError) as error:
                opened._give_up(error)
            yield opened

    def used(self) -> int:
        """The size of all shards in bytes; 0 if the folder cannot be listed."""
        try:
            return self._room.used()
        except OSError:
            return 0

    def get(self, group: str, key: str) -> Tensor | None:
        """The activations of a shard, on the CPU; None if it is missing or damaged."""
        file = self._file(group, key)
        try:
            found = read_shard(file, _full(group, key))
            with suppress(OSError):
                os.utime(file)  # removing shards begins with those that were used longest ago
        except FileNotFoundError:
            return None
        except Damaged as error:
            self._say(f"{file} is damaged ({error}); its rows are read by the model again")
            with suppress(OSError):
                file.unlink()
            return None
        except OSError as error:
            self._say(f"{outside_cause(error)}; its rows are read by the model again")
            return None
        return found

    def has(self, group: str, key: str) -> bool:
        """Whether there is a shard; it may be damaged."""
        return self._file(group, key).is_file()

    def takes(self, size: int) -> bool:
        """Whether shards of so many bytes may be written now; shards may be removed for them."""
        try:
            return self._writes and self._room.take(size)
        except (OSError, UserError) as error:
            self._give_up(error)
            return False

    def put(self, group: str, key: str, activations: Tensor, made_of: dict[str, Any]) -> None:
        """Write a shard; `made_of` describes all shards of its group, for those who look into the folder."""
        file = self._file(group, key)
        try:
            if not (file.parent / SET_FILE).exists():
                file.parent.mkdir(exist_ok=True)
                write_sealed(file.parent / SET_FILE, made_of)
            write_shard(file, activations, _full(group, key))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        self._writes = False
        self._say(
            f"the activation cache {self._folder} cannot be written ({outside_cause(cause) or cause}): the "
            "run goes on without adding to it"
        )

    def _file(self, group: str, key: str) -> Path:
        return self._folder / group / f"{key}{ENDING}"


def _full(group: str, key: str) -> str:
    return f"{group} {key}"


class CachedRows:
    """The activations of one model's rows, from the cache or from the model, which then fills the cache.

    A pass of the model reads all `sites` that the cache lacks, so sites that are trained one after the other
    share it.
    """

    def __init__(
        self, cached: ActivationCache, lm: LanguageModel, weights: str, sites: Sequence[str]
    ) -> None:
        """`weights` identifies the model's weights."""
        self._cached, self._lm, self._sites = cached, lm, tuple(sites)
        self._common = {"weights": weights, "computed_with": computation_of(lm)}
        self._group = cache(lambda site: key_of(self._made_of(site)))
        self.found = self.computed = 0
        """Rows from the cache, and rows that the model has read."""

    def __call__(self, tokens: Tensor, site: str, *, at_once: int) -> Tensor:
        """As `abench.data.readers.RowActivations`."""
        key = _key_of(tokens, at_once)
        known = self._cached.get(self._group(site), key)
        if known is not None:
            self.found += len(tokens)
            return known.to(self._lm.device)
        self.computed += len(tokens)
        others = [each for each in self._sites if each != site]
        wanted = [site, *(each for each in others if not self._cached.has(self._group(each), key))]
        size = tokens.numel() * self._lm.d_model * self._lm.model.dtype.itemsize + _HEADER
        if not self._cached.takes(len(wanted) * size):
            return computed_rows(self._lm, tokens, [site], at_once=at_once)[site]
        computed = computed_rows(self._lm, tokens, wanted, at_once=at_once)
        if not self._lm.fitting.in_one("activations", at_once, tokens.shape[1]):
            return computed[site]  # smaller passes can give other bits than those that the key stands for
        for each, activations in computed.items():
            self._cached.put(self._group(each), key, activations, self._made_of(each))
        return computed[site]

    def _made_of(self, site: str) -> dict[str, Any]:
        return self._common | {"site": site}


def _key_of(tokens: Tensor, at_once: int) -> str:
    """The hash of rows of token ids, and of how many are read in one pass, which can change bits."""
    found = hashlib.sha256(f"{list(tokens.shape)} {at_once}\n".encode())
    found.update(tokens.contiguous().numpy().data)
    return found.hexdigest()
