"""The last input of a block, kept so that a pass that resumes within the block need not compute it again."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

_State = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Input:
    tokens: Tensor
    layer: int
    state: _State
    hidden: Tensor


class BlockInputs:
    """The input of one block for one batch of tokens: the one that was read last.

    It is used only for the same tokens, and only if the weights have not changed and nothing, such as an
    intervention, is hooked into the model. Reading the output of a block's attention or MLP and then
    replacing it thus runs the blocks below once.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._kept: _Input | None = None

    def of(self, tokens: Tensor, layer: int) -> Tensor | None:
        """A copy of the input [batch, sequence, d_model] of block `layer`; None if it is not known."""
        kept = self._kept
        if kept is None or kept.layer != layer or not torch.equal(kept.tokens, tokens.cpu()):
            return None
        return kept.hidden.clone() if kept.state == _state(self._model) else None

    def keep(self, tokens: Tensor, layer: int, hidden: Tensor) -> None:
        """Keep the input of block `layer` that a pass over `tokens` has just read.

        Nobody else may write to `hidden`. Nothing is kept if something is hooked into the model.
        """
        state = _state(self._model)
        # A copy of the tokens, because the caller may write to them.
        self._kept = None if state is None else _Input(tokens.cpu().clone(), layer, state, hidden)


def _state(model: nn.Module) -> _State | None:
    """A value that changes if the weights change; None if something is hooked into the model."""
    for module in model.modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
            return None
    return tuple(
        (each.data_ptr(), 0 if each.is_inference() else each._version) for each in model.parameters()
    )
