"""Interventions on the residual stream at a site, for as long as a context lasts.

The paper's steering: a latent is clamped to a value, negative one way and positive the other; against it,
activation addition and ablation of a direction. All positions are treated alike, also BOS and the single
token of a cached step of generation: a hook on a block sees no tokens. Where a model's BOS has a residual
stream far larger than other tokens', a clamp takes the latent's code from it as from any other.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from abench.blocks import hidden_of, with_hidden
from abench.decoding import latent_directions
from abench.errors import UserError
from abench.models import LanguageModel


class Intervention(Protocol):
    """What becomes of the residual stream [batch, sequence, d_model]: one of the same shape and dtype."""

    def __call__(self, residual: Tensor) -> Tensor: ...


@contextmanager
def steered(lm: LanguageModel, site: str, intervention: Intervention | None) -> Iterator[None]:
    """Within it the site's block gives what the intervention makes of its output; None changes nothing.

    It holds for all that runs the model's blocks: logits, residual streams from this site on, generation.
    Contexts within each other act in the order they were entered. Raises UserError for a site the model
    lacks, ValueError where the intervention returns another shape.
    """
    block = lm._layer(site)
    if intervention is None:
        yield
        return

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        residual = hidden_of(output)
        replaced = intervention(residual)
        if replaced.shape != residual.shape:
            raise ValueError(
                f"{intervention} made {list(replaced.shape)} of a residual stream {list(residual.shape)}"
            )
        return with_hidden(output, replaced.to(residual.device, residual.dtype))

    handle = block.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class ClampLatent:
    """Sets the code of a latent of an SAE to `value` at every position (paper: z_i = c).

    A signed latent has two poles: value < 0 goes one way, > 0 the other. `value` is in units of the residual
    stream: where the latent is silent, the stream is moved by that length along its decoder row, whether the
    SAE normalises its input or not.
    """

    sae: Any
    latent: int
    value: float
    keep_error: bool = True
    """h + (value − z_i)·d_i, which keeps what the SAE does not reconstruct; otherwise its decoding alone."""

    def __post_init__(self) -> None:
        _few_latents().check_latents(self.sae, [self.latent])

    def __call__(self, residual: Tensor) -> Tensor:
        if self.keep_error:
            return _moved(residual, self.sae, [self.latent], lambda codes: self.value - codes)
        codes = self.sae.encode(_tokens(residual, self.sae)).clone()
        codes[:, self.latent] = 0
        # Added and not decoded: no code adds anything at a token without spread, if the SAE standardises.
        decoded: Tensor = self.sae.decode(codes) + self.value * latent_directions(self.sae, [self.latent])
        return decoded.reshape(residual.shape).to(residual.device, residual.dtype)


@dataclass(frozen=True)
class ScaleLatent:
    """Multiplies the code of a latent; the SAE's error is kept. Factor 1 changes no bit."""

    sae: Any
    latent: int
    factor: float

    def __post_init__(self) -> None:
        _few_latents().check_latents(self.sae, [self.latent])

    def __call__(self, residual: Tensor) -> Tensor:
        if self.factor == 1:
            return residual
        return _moved(residual, self.sae, [self.latent], lambda codes: (self.factor - 1) * codes)


@dataclass(frozen=True)
class AblateLatents:
    """Sets the codes of some latents to 0; the SAE's error is kept."""

    sae: Any
    latents: Sequence[int]

    def __post_init__(self) -> None:
        _few_latents().check_latents(self.sae, self.latents)
        object.__setattr__(self, "latents", tuple(dict.fromkeys(self.latents)))

    def __call__(self, residual: Tensor) -> Tensor:
        return _moved(residual, self.sae, self.latents, torch.neg) if self.latents else residual


@dataclass(frozen=True, eq=False)
class AddDirection:
    """Activation addition: h + strength · direction / ‖direction‖. Strength 0 changes no bit.

    `direction` is [d_model]; `strength` is a length in the residual stream, so for α times the usual norm of
    activations give α · `Concept.activation_norm`. Raises UserError for a direction without length.
    """

    direction: Tensor
    strength: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _unit(self.direction))

    def __call__(self, residual: Tensor) -> Tensor:
        if self.strength == 0:
            return residual
        moved = residual + self.strength * self.direction.to(residual.device)
        return moved.to(residual.dtype)


@dataclass(frozen=True, eq=False)
class AblateDirection:
    """Directional ablation: h − (h·u)u with u = direction / ‖direction‖, `direction` [d_model].

    Raises UserError for a direction without length.
    """

    direction: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _unit(self.direction))

    def __call__(self, residual: Tensor) -> Tensor:
        unit = self.direction.to(residual.device)
        h = residual.to(unit.dtype)
        return (h - (h @ unit)[..., None] * unit).to(residual.dtype)


def _moved(residual: Tensor, sae: Any, latents: Sequence[int], change: Callable[[Tensor], Tensor]) -> Tensor:
    """The residual stream after the codes of some latents, [tokens, latents given], changed by `change`.

    Codes are in units of the residual stream.
    """
    x = _tokens(residual, sae)
    codes = _few_latents().residual_codes_of(sae, x, latents)
    step: Tensor = change(codes) @ latent_directions(sae, latents)
    # Added to what came in, not to the copy in the SAE's dtype, which may be the coarser one.
    return (residual + step.reshape(residual.shape).to(residual.device)).to(residual.dtype)


def _few_latents() -> Any:
    # sae_lens takes seconds to import, and who only lists the tasks does not need it.
    from abench import few_latents

    return few_latents


def _tokens(residual: Tensor, sae: Any) -> Tensor:
    """[tokens, d_model], where the SAE is and in its dtype."""
    return residual.reshape(-1, residual.shape[-1]).to(sae.device, sae.dtype)


def _unit(direction: Tensor) -> Tensor:
    norm = float(direction.float().norm()) if direction.ndim == 1 else math.nan
    if not (norm > 0 and math.isfinite(norm)):
        raise UserError(
            f"a direction is a vector [d_model] of finite length above 0, not {list(direction.shape)} "
            f"of length {norm:g}"
        )
    return direction.detach().float() / norm
