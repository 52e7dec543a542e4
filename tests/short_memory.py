"""A model whose larger forward passes run out of memory, as on a GPU that is too small."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from abench import LanguageModel

MESSAGE = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB"


def on_gpu() -> None:
    """Fail as torch does when a GPU's memory is full."""
    raise torch.OutOfMemoryError(MESSAGE)


def on_cpu() -> None:
    """Run out of main memory, for real."""
    torch.empty(1 << 50, dtype=torch.uint8)


@contextmanager
def short_of_memory(
    lm: LanguageModel,
    most: int,
    fail: Callable[[], None] = on_gpu,
    size: Callable[[torch.Tensor], int] = len,
) -> Iterator[list[int]]:
    """While active, passes over tokens of a `size` above `most` fail; gives the sizes of those that did."""
    failed: list[int] = []

    def refuse(_module: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        tokens = args[0] if args else kwargs["input_ids"]
        if size(tokens) > most:
            failed.append(size(tokens))
            fail()

    handle = lm.model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield failed
    finally:
        handle.remove()
