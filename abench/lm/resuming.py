"""Forward passes that resume after a block or within it; the blocks below are not run."""

from collections.abc import Callable, Iterator, Sequence
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

    with _passing_on(blocks[:-1], form), _covered(blocks[-1:], replace):
        yield


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

    with _covered(blocks, pass_on):
        yield


@contextmanager
def _covered(blocks: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """While active, these blocks compute `forward`."""
    # A block of a model that is spread over devices has a `forward` of its own, which moves its input there.
    own = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = forward
        yield
    finally:
        for block, before in zip(blocks, own, strict=True):
            if before is None:
                vars(block).pop("forward", None)  # uncovers the method of its class
            else:
                block.forward = before
