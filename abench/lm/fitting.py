"""Forward passes over as many rows as memory holds: one that runs out of memory is halved and tried again.

Rows of a batch do not interact, so the parts give the results of the whole. Padding is that of the whole
batch, so a row is computed at the same length in either case.
"""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from abench.errors import MemoryShortageError, is_out_of_memory, requested_memory

Result = TypeVar("Result")


class FittingPasses:
    """The sizes of a model's forward passes that memory holds, found by running out of it.

    Sizes are in tokens, rows × length, and one is kept for each kind of pass (reading activations, computing
    logits, replies), because their needs differ by far. They are kept as long as the model is open.
    """

    def __init__(self, name: str) -> None:
        """`name` is what the model is called in messages."""
        self._name = name
        self._most: dict[str, int] = {}
        """The most tokens of a pass, by kind; only kinds that have run out of memory."""
        self._largest: dict[str, tuple[int, int]] = {}
        """Rows and length of the largest pass since `begin`, by kind."""

    def begin(self) -> None:
        """Forget which sizes have been used, but not which ones fit."""
        self._largest = {}

    def used(self) -> dict[str, dict[str, int]]:
        """The largest pass of each kind since `begin`: its rows and the tokens of each.

        `most_tokens` is added where memory has run out: the largest pass of this kind that is tried.
        """
        return {
            kind: {"rows": rows, "tokens": length}
            | ({"most_tokens": self._most[kind]} if kind in self._most else {})
            for kind, (rows, length) in sorted(self._largest.items())
        }

    def in_one(self, kind: str, rows: int, length: int) -> bool:
        """Whether a pass over `rows` rows of `length` tokens is tried in one part."""
        return rows <= self._rows(kind, rows, length)

    def parts(self, kind: str, shape: Sequence[int], compute: Callable[[slice], Result]) -> list[Result]:
        """The results of `compute` for all rows of tokens of a shape, in order: one, or as many as it takes.

        `compute` receives the rows of a part. It is called again for rows for which memory ran out, so it
        must not have changed anything before that. Raises MemoryShortageError if one row is too much.
        """
        rows, length = shape
        results: list[Result] = []
        done = 0
        while done < rows or not rows:
            size = self._rows(kind, rows - done, length)
            shortage, part = _attempt(compute, slice(done, done + size))
            if shortage is None:
                results += part
                done += size
                self._count(kind, size, length)
                if not rows:
                    break
            elif size <= 1:
                raise MemoryShortageError(self._sentence(kind, length, shortage))
            else:
                self._most[kind] = size // 2 * length
        return results

    def _rows(self, kind: str, rows: int, length: int) -> int:
        most = self._most.get(kind)
        return rows if most is None else min(rows, max(1, most // max(1, length)))

    def _count(self, kind: str, rows: int, length: int) -> None:
        known_rows, known_length = self._largest.get(kind, (0, 0))
        if rows * length > known_rows * known_length:
            self._largest[kind] = (rows, length)

    def _sentence(self, kind: str, length: int, shortage: str) -> str:
        wanted = f" ({shortage})" if shortage else ""
        return (
            f"there is not enough memory{wanted} for a forward pass of {self._name} over a single row of "
            f"{length:,} tokens ({kind}): use a shorter context, dtype bfloat16, fewer or narrower SAEs at a "
            "time, or a device with more memory (--device auto spreads the model over all GPUs)"
        )


def joined(parts: list[Tensor]) -> Tensor:
    """The rows of all parts; a single part is returned as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attempt(compute: Callable[[slice], Result], rows: slice) -> tuple[str | None, list[Result]]:
    """The result, or how much memory was missing (empty if the error does not state it)."""
    try:
        return None, [compute(rows)]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # Only the text is kept: the error's traceback refers to the tensors of the pass that failed.
        shortage = requested_memory(error) or ""
    free_cached_memory()
    return shortage, []


def free_cached_memory() -> None:
    """Return memory that no tensor uses to the device, so that smaller tensors find a place in it."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
