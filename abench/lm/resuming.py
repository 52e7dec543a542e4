"""Forward passes that resume after a block or within it; the blocks below are not run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from abench.lm.blocks import in_form, with_input
from abench.lm.contributions import replaced


@contextmanager
def resumed_after(blocks: Sequence[nn.Module], hidden: Tensor, form: Any) -> Iterator[None]:
    """While active, the last of `blocks` returns `hidden`, and those below it are not run.

    `blocks` are a model's blocks up to the one after which passes resume, and `form` is the structure of
    their outputs (`abench.lm.blocks.emptied`).
    """
    result = in_form(form, hidden)

    def replace(*_args: Any, **_kwargs: Any) -> Any:
        return result

    top = blocks[-1]
    with _passing_on(blocks[:-1], form):
        try:
            top.forward = replace
            yield
        finally:
            _uncover(top)


@contextmanager
def resumed_within(
    blocks: Sequence[nn.Module], before: Tensor, module: nn.Module, hidden: Tensor, form: Any
) -> Iterator[None]:
    """While active, the last of `blocks` receives `before`, and its part `module` returns `hidden`."""

    def feed(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return with_input(args, kwargs, before.clone())

    with _passing_on(blocks[:-1], form), replaced(module, hidden):
        # First, because `before` is what the blocks below return, before anything else that is hooked here.
        handle = blocks[-1].register_forward_pre_hook(feed, with_kwargs=True, prepend=True)
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def _passing_on(blocks: Sequence[nn.Module], form: Any) -> Iterator[None]:
    """While active, these blocks return their input."""

    def pass_on(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        return in_form(form, hidden_states)

    try:
        for block in blocks:
            block.forward = pass_on
        yield
    finally:
        for block in blocks:
            _uncover(block)


def _uncover(block: nn.Module) -> None:
    """Deletes the instance's `forward`, which uncovers the class's method again."""
    block.__dict__.pop("forward", None)
