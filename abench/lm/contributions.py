"""The modules of a block whose outputs are what its attention and its MLP add to the residual stream.

Architectures name and arrange these modules differently: with or without a norm after them (Gemma 2), one
after the other or in parallel (GPT-NeoX), with the addition inside the module (Bloom). They are therefore
found by running the block on a few tokens, and the result is checked: if both outputs are replaced, the block
must return its input plus the two replacements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from abench.errors import UserError
from abench.lm.blocks import Stopped, hidden_of, input_of, with_hidden
from abench.sites import site_name

_TOKENS = 6
_ROUNDINGS = 4
"""A sum of three numbers is rounded twice; the order of the additions differs between architectures."""


@dataclass(frozen=True)
class Contributions:
    """The modules of one block whose outputs are added to the residual stream."""

    attn_out: nn.Module
    mlp_out: nn.Module

    def of(self, kind: str) -> nn.Module:
        """The module of a kind of site, `attn_out` or `mlp_out`."""
        module: nn.Module = getattr(self, kind)
        return module


@torch.inference_mode()
def contributions_of(
    model: Any, block: nn.Module, layer: int, name: str, *, device: torch.device
) -> Contributions:
    """The modules that write to the residual stream in a block of a transformers model.

    `device` is where the model takes tokens.

    Raises UserError if the block has no attention, or if it returns anything but the sum of its input, the
    output of an attention and the output of one other module.
    """
    run = _Run(model, block, device)
    trace = run.traced()
    attention = _attention(block, trace)
    if attention is None:
        raise _lacking(model, name, layer, f"block {layer} has no attention module")
    for pair in _pairs(block, attention, trace):
        if run.adds(pair, trace):
            return pair
    raise _lacking(
        model,
        name,
        layer,
        f"what block {layer} returns is not the sum of its input and the outputs [batch, sequence, d_model] "
        "of its attention and one other module",
    )


def _lacking(model: Any, name: str, layer: int, cause: str) -> UserError:
    return UserError(
        f"{name} ({type(model).__name__}) has no sites {site_name(layer, 'attn_out')} and "
        f"{site_name(layer, 'mlp_out')}: {cause}; use {site_name(layer)} (sites: resid_post)"
    )


@dataclass
class _Trace:
    """A block's input and output [1, tokens, d_model], and its modules' outputs of the same shape."""

    before: Tensor
    after: Tensor
    outputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    live: dict[nn.Module, tuple[Tensor | None, Tensor]] = field(default_factory=dict)
    """The tensors themselves, which a block may have changed in place since: first input and output."""


class _Run:
    """Runs a model on a few tokens, up to the end of one block."""

    def __init__(self, model: Any, block: nn.Module, device: torch.device) -> None:
        self._model, self._block = model, block
        vocabulary = model.get_input_embeddings().weight.shape[0]
        self._tokens = torch.arange(1, 1 + _TOKENS, device=device)[None] % vocabulary

    def traced(self) -> _Trace:
        """The block's input and output, and the outputs of its modules."""
        outputs: dict[nn.Module, Tensor] = {}
        live: dict[nn.Module, tuple[Tensor | None, Tensor]] = {}

        def see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(hidden, Tensor):
                first = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
                outputs[module], live[module] = hidden.clone(), (first, hidden)

        with ExitStack() as hooks:
            for module in list(self._block.modules())[1:]:
                handle = module.register_forward_hook(see, prepend=True)
                hooks.callback(handle.remove)
            before, after = self._through()
        kept = {module: output for module, output in outputs.items() if output.shape == before.shape}
        return _Trace(before, after, kept, live)

    def adds(self, pair: Contributions, trace: _Trace) -> bool:
        """Whether the block returns its input plus whatever the two modules return."""
        generator = torch.Generator().manual_seed(0)
        # As large as the input, so that a contribution that goes missing is not lost in rounding.
        size = float(trace.before.float().abs().nan_to_num(posinf=1, neginf=1).mean()) or 1.0
        drawn = [
            size * torch.randn(trace.before.shape, generator=generator).to(trace.before) for _ in range(2)
        ]
        with replaced(pair.attn_out, drawn[0]), replaced(pair.mlp_out, drawn[1]):
            before, after = self._through()
        return _is_sum(after, (before, *drawn))

    def _through(self) -> tuple[Tensor, Tensor]:
        """Copies of the block's input and output."""
        seen: list[Tensor] = []

        def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(input_of(args, kwargs).clone())

        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen.append(hidden_of(output).clone())
            raise Stopped

        # First on the way in and out, so that interventions at the block itself are not seen.
        hooks = [
            self._block.register_forward_pre_hook(enter, with_kwargs=True),
            self._block.register_forward_hook(leave, prepend=True),
        ]
        try:
            with suppress(Stopped):
                self._model(input_ids=self._tokens, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        before, after = seen
        return before, after


@contextmanager
def replaced(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """While active, the hidden state in a module's output is `hidden`; hooks of others see it."""

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        # A copy, because some blocks add to the outputs of their modules in place; on the module's device.
        return with_hidden(output, hidden.to(hidden_of(output).device, copy=True))

    handle = module.register_forward_hook(replace, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def _attention(block: nn.Module, trace: _Trace) -> nn.Module | None:
    """The block's outermost attention module; all architectures of transformers name its class so."""
    for module in list(block.modules())[1:]:
        if module in trace.live and "attention" in type(module).__name__.lower():
            return module
    return None


def _pairs(block: nn.Module, attention: nn.Module, trace: _Trace) -> Iterator[Contributions]:
    """The pairs of modules whose outputs, added to the block's input, give its output."""
    # Outer modules come before their parts, which may have the same output. A dropout is no part of its own.
    outputs = {
        module: trace.outputs[module]
        for module in block.modules()
        if module in trace.outputs and not isinstance(module, nn.Dropout)
    }
    inside = set(attention.modules())
    firsts = [module for module in (*attention.modules(), *_fed_by(attention, trace)) if module in outputs]
    seconds = [module for module in outputs if module not in inside]
    for first, second in product(firsts, seconds):
        parts = (trace.before, outputs[first], outputs[second])
        if first is not second and _is_sum(trace.after, parts):
            yield Contributions(first, second)


def _fed_by(attention: nn.Module, trace: _Trace) -> list[nn.Module]:
    """The modules after the attention, such as a norm, that receive nothing but its output, in order."""
    inside = set(attention.modules())
    found: list[nn.Module] = []
    last = trace.live[attention][1]
    for module, (first, output) in trace.live.items():
        if module not in inside and first is not None and first.data_ptr() == last.data_ptr():
            found.append(module)
            last = output
    return found


def _is_sum(total: Tensor, parts: tuple[Tensor, ...]) -> bool:
    """Whether a tensor is the sum of its parts up to rounding, at every element of finite parts."""
    eps = _ROUNDINGS * torch.finfo(total.dtype).eps
    each = torch.stack([part.double() for part in parts])
    error, largest = (each.sum(0) - total.double()).abs(), each.abs().sum(0)
    return bool((error <= eps * largest)[each.isfinite().all(0)].all())
