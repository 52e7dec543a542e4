"""The blocks of a decoder, found by what they are and not by what an architecture calls them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from abench.errors import UserError


def blocks_of(model: Any, name: str) -> nn.ModuleList:
    """The decoder's blocks, in order; UserError for a model that has none, or whose blocks are no decoder's.

    They are the one list of modules that is as long as the configuration says that the model is deep.
    """
    config = model.config.get_text_config()
    if model.get_output_embeddings() is None:
        raise UserError(f"{name} predicts no tokens; abench works on causal language models")
    depth = getattr(config, "num_hidden_layers", None)
    blocks = next(_lists_of(model.get_decoder(), depth), None)
    if blocks is None:
        raise UserError(f"no list of {depth} blocks is found in {name} ({type(model).__name__})")
    if any(getattr(module, "is_causal", True) is False for module in blocks.modules()):
        raise UserError(
            f"in the blocks of {name} ({type(model).__name__}) tokens see the ones after them, as in "
            "encoders; abench works on causal language models"
        )
    return blocks


def _lists_of(decoder: nn.Module, depth: Any) -> Iterator[nn.ModuleList]:
    """Lists of `depth` blocks of one kind; the shallowest first, as lists within blocks count for nothing."""
    lists = [(name, module) for name, module in decoder.named_modules() if isinstance(module, nn.ModuleList)]
    for _, module in sorted(lists, key=lambda found: found[0].count(".")):
        if len(module) == depth and depth:
            yield module


def hidden_of(output: Any) -> Tensor:
    """The residual stream [batch, sequence, d_model] in what a block returns.

    Some architectures return it alone, some as the first of several things.
    """
    hidden: Tensor = output if isinstance(output, Tensor) else output[0]
    return hidden


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """What a block returned, with another residual stream in it."""
    return hidden if isinstance(output, Tensor) else type(output)((hidden, *output[1:]))


def emptied(output: Any) -> Any:
    """The form of what a block returned, without its tensors."""
    return None if isinstance(output, Tensor) else type(output)(None for _ in output)


def in_form(form: Any, hidden: Tensor) -> Any:
    """A residual stream as a block returns it that returned something of this form (`emptied`)."""
    return hidden if form is None else type(form)((hidden, *form[1:]))


@contextmanager
def narrowed(modules: Sequence[nn.Module], keep: Callable[..., tuple[Any, ...]]) -> Iterator[None]:
    """Within it these modules are given what `keep` makes of their input."""
    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def narrowable(model: Any, top: nn.Module) -> list[nn.Module]:
    """The modules after the last attention that can be given the last position of each row alone.

    After the last attention, positions no longer meet. What the top block's MLP gives for one position is
    then added to all, which is right at that one; and the others' logits would often cost the most. Whether
    a block adds it in such a way is tried on a few tokens.
    """
    head: nn.Module = model.get_output_embeddings()
    mlp = getattr(top, "mlp", None)
    if not isinstance(mlp, nn.Module):
        return [head]
    tokens = torch.tensor([[1, 2, 3], [3, 1, 2]], device=model.device)

    def keep_last(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][:, -1:], *inputs[1:])

    wanted = model(input_ids=tokens, use_cache=False).logits[:, -1]
    try:
        with narrowed([mlp, head], keep_last):
            found = model(input_ids=tokens, use_cache=False).logits[:, -1]
    except RuntimeError:
        # The MLP's output is added in place, which takes tensors of one shape.
        return [head]
    if not bool(wanted.isfinite().all()):
        return [head]
    alike = torch.allclose(found, wanted, rtol=0, atol=1e-2 * float(wanted.abs().max()))
    return [mlp, head] if alike else [head]
