"""The blocks of a decoder, found by their structure because every architecture names them differently."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from abench.errors import UserError


class Stopped(Exception):  # noqa: N818 - no error: a forward pass that need not go further
    """Ends a forward pass where nothing above is needed."""


def blocks_of(model: Any, name: str) -> nn.ModuleList:
    """The decoder's blocks, in order.

    They are the one list of modules whose length is the depth that the configuration states. Raises UserError
    for a model without such a list, without an output embedding, or with blocks that are not causal.
    """
    config = model.config.get_text_config()
    if model.get_output_embeddings() is None:
        raise UserError(f"{name} predicts no tokens; abench works on causal language models")
    depth = getattr(config, "num_hidden_layers", None)
    blocks = next(_lists_of(model.get_decoder(), depth), None)
    if blocks is None:
        raise UserError(f"found no list of {depth} blocks in {name} ({type(model).__name__})")
    if any(getattr(module, "is_causal", True) is False for module in blocks.modules()):
        raise UserError(
            f"in the blocks of {name} ({type(model).__name__}) tokens attend to later tokens, as in an "
            "encoder; abench works on causal language models"
        )
    return blocks


def _lists_of(decoder: nn.Module, depth: Any) -> Iterator[nn.ModuleList]:
    """Lists of `depth` modules, the least nested first because lists within blocks are not the decoder's."""
    lists = [(name, module) for name, module in decoder.named_modules() if isinstance(module, nn.ModuleList)]
    for _, module in sorted(lists, key=lambda found: found[0].count(".")):
        if len(module) == depth and depth:
            yield module


def hidden_of(output: Any) -> Tensor:
    """The residual stream [batch, sequence, d_model] in a block's output.

    Some architectures return it alone, others as the first item of a tuple.
    """
    hidden: Tensor = output if isinstance(output, Tensor) else output[0]
    return hidden


def input_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The residual stream [batch, sequence, d_model] in a block's arguments."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def with_input(args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor) -> tuple[Any, dict[str, Any]]:
    """A block's arguments with the residual stream replaced by `hidden`."""
    return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """The block's output with its residual stream replaced by `hidden`."""
    return hidden if isinstance(output, Tensor) else type(output)((hidden, *output[1:]))


def emptied(output: Any) -> Any:
    """The structure of a block's output without its tensors; None if the output is a tensor."""
    return None if isinstance(output, Tensor) else type(output)(None for _ in output)


def in_form(form: Any, hidden: Tensor) -> Any:
    """A residual stream wrapped in the structure of a block's output, as given by `emptied`."""
    return hidden if form is None else type(form)((hidden, *form[1:]))


@contextmanager
def narrowed(modules: Sequence[nn.Module], keep: Callable[..., tuple[Any, ...]]) -> Iterator[None]:
    """While active, these modules receive `keep(module, inputs)` in place of their inputs."""
    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def narrowable(model: Any, top: nn.Module, device: torch.device) -> list[nn.Module]:
    """The modules after the last attention that may process only the last position of each row.

    After the last attention, positions no longer interact, and the logits of all other positions are often
    the most expensive part of a pass. When the top block's MLP receives one position, its output is broadcast
    over all positions when it is added to the residual stream, which is correct at that one position. Whether
    a block adds it this way is tested on a few tokens. `device` is where the model takes tokens.
    """
    head: nn.Module = model.get_output_embeddings()
    mlp = getattr(top, "mlp", None)
    if not isinstance(mlp, nn.Module):
        return [head]
    tokens = torch.tensor([[1, 2, 3], [3, 1, 2]], device=device)

    def keep_last(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][:, -1:], *inputs[1:])

    wanted = model(input_ids=tokens, use_cache=False).logits[:, -1]
    try:
        with narrowed([mlp, head], keep_last):
            found = model(input_ids=tokens, use_cache=False).logits[:, -1]
    except RuntimeError:
        # The MLP's output is added in place, which needs tensors of equal shape.
        return [head]
    if not bool(wanted.isfinite().all()):
        return [head]
    alike = torch.allclose(found, wanted, rtol=0, atol=1e-2 * float(wanted.abs().max()))
    return [mlp, head] if alike else [head]
