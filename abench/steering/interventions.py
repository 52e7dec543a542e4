"""Interventions on the activations at a site, active while a context manager is open.

The paper's steering clamps a latent to a value, negative in one direction and positive in the other. The
baselines are activation addition and ablation of a direction. All positions are treated alike, including BOS
and the single token of a cached generation step, because a hook on a block does not see tokens. In models
whose residual stream at BOS is far larger than at other tokens, a clamp applies to it all the same.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from abench.errors import UserError
from abench.latents.anyones import usable
from abench.latents.decoding import latent_directions
from abench.lm.blocks import hidden_of, with_hidden
from abench.lm.models import LanguageModel, model_of
from abench.sae import SAE


class Intervention(Protocol):
    """Transforms the activations [batch, sequence, d_model]; the result has the same shape and dtype."""

    def __call__(self, residual: Tensor) -> Tensor: ...


@contextmanager
def steered(
    lm: LanguageModel | str | Path, site: str, intervention: Intervention | None
) -> Iterator[LanguageModel]:
    """While active, intervention(activations) replaces the activations at a site; None changes nothing.

    Yields the model, which may be given as what `LanguageModel.load` accepts.

    At `hook_attn_out` and `hook_mlp_out` this changes what attention or MLP adds to the residual stream. It
    affects everything that runs the model's blocks: logits, activations from this site on, generation. Nested
    interventions apply in the order in which they were entered. Raises UserError for a site that the model
    lacks, and ValueError if the intervention returns another shape.
    """
    lm = model_of(lm)
    module = lm._module(site)
    if intervention is None:
        yield lm
        return

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        activations = hidden_of(output)
        replaced = intervention(activations)
        if replaced.shape != activations.shape:
            raise ValueError(
                f"{intervention} returned {list(replaced.shape)} for activations {list(activations.shape)}"
            )
        return with_hidden(output, replaced.to(activations.device, activations.dtype))

    handle = module.register_forward_hook(replace)
    try:
        yield lm
    finally:
        handle.remove()


@dataclass(frozen=True)
class ClampLatent:
    """Sets the code of one latent to `value` at every position (paper: z_i = c).

    A signed latent has two poles: a negative value steers in one direction, a positive value in the other.
    `value` is in units of the residual stream: where the latent is inactive, the stream moves by that length
    along the latent's decoder row, whether or not the SAE normalises its input. Raises UserError if the SAE
    has no such latent.
    """

    sae: SAE
    latent: int
    value: float
    keep_error: bool = True
    """True: h + (value − z_i)·d_i, which keeps the SAE's reconstruction error. False: the decoding alone."""

    def __post_init__(self) -> None:
        _check(self, [self.latent])

    def __repr__(self) -> str:
        return f"ClampLatent(latent {self.latent} to {self.value:g})"

    def __call__(self, residual: Tensor) -> Tensor:
        if self.keep_error:
            return _moved(residual, self.sae, [self.latent], lambda codes: self.value - codes)
        codes = self.sae.encode(_tokens(residual, self.sae)).clone()
        codes[:, self.latent] = 0
        # Added, not decoded: if the SAE standardises, no code contributes on a token without spread.
        decoded: Tensor = self.sae.decode(codes) + self.value * latent_directions(self.sae, [self.latent])
        return decoded.reshape(residual.shape).to(residual.device, residual.dtype)


@dataclass(frozen=True)
class ScaleLatent:
    """Multiplies the code of one latent by `factor`; the SAE's reconstruction error is kept.

    A factor of 1 leaves the residual stream bitwise unchanged.
    """

    sae: SAE
    latent: int
    factor: float

    def __post_init__(self) -> None:
        _check(self, [self.latent])

    def __repr__(self) -> str:
        return f"ScaleLatent(latent {self.latent} times {self.factor:g})"

    def __call__(self, residual: Tensor) -> Tensor:
        if self.factor == 1:
            return residual
        return _moved(residual, self.sae, [self.latent], lambda codes: (self.factor - 1) * codes)


@dataclass(frozen=True)
class AblateLatents:
    """Sets the codes of the given latents to 0; the SAE's reconstruction error is kept."""

    sae: SAE
    latents: Sequence[int]

    def __post_init__(self) -> None:
        _check(self, self.latents)
        object.__setattr__(self, "latents", tuple(dict.fromkeys(self.latents)))

    def __repr__(self) -> str:
        return f"AblateLatents({', '.join(map(str, self.latents))})"

    def __call__(self, residual: Tensor) -> Tensor:
        return _moved(residual, self.sae, self.latents, torch.neg) if self.latents else residual


@dataclass(frozen=True, eq=False)
class AddDirection:
    """Activation addition: h + strength · direction / ‖direction‖.

    `direction` is [d_model]. `strength` is a length in the residual stream: for α times the mean norm of
    activations, use α · `Concept.activation_norm`. A strength of 0 leaves the residual stream bitwise
    unchanged. Raises UserError for a zero direction.
    """

    direction: Tensor
    strength: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _unit(self.direction))

    def __repr__(self) -> str:
        return f"AddDirection(d_model {len(self.direction)}, strength {self.strength:g})"

    def __call__(self, residual: Tensor) -> Tensor:
        if self.strength == 0:
            return residual
        moved = residual + self.strength * self.direction.to(residual.device)
        return moved.to(residual.dtype)


@dataclass(frozen=True, eq=False)
class AblateDirection:
    """Directional ablation: h − (h·u)u with u = direction / ‖direction‖, `direction` [d_model].

    Raises UserError for a zero direction.
    """

    direction: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", _unit(self.direction))

    def __repr__(self) -> str:
        return f"AblateDirection(d_model {len(self.direction)})"

    def __call__(self, residual: Tensor) -> Tensor:
        unit = self.direction.to(residual.device)
        h = residual.to(unit.dtype)
        return (h - (h @ unit)[..., None] * unit).to(residual.dtype)


def _moved(residual: Tensor, sae: SAE, latents: Sequence[int], change: Callable[[Tensor], Tensor]) -> Tensor:
    """The residual stream after adding `change(codes)` to the codes of the given latents.

    Codes are [tokens, latents given], in units of the residual stream.
    """
    x = _tokens(residual, sae)
    codes = _few_latents().residual_codes_of(sae, x, latents)
    step: Tensor = change(codes) @ latent_directions(sae, latents)
    # Added to the input, not to its copy in the SAE's dtype, which may be less precise.
    return (residual + step.reshape(residual.shape).to(residual.device)).to(residual.dtype)


def _check(intervention: Any, latents: Sequence[int]) -> None:
    """Make the SAE of a frozen intervention usable; raises UserError for a latent that it does not have."""
    object.__setattr__(intervention, "sae", usable(intervention.sae))
    _few_latents().check_latents(intervention.sae, latents)


def _few_latents() -> Any:
    # sae_lens takes seconds to import, and listing the tasks does not need it.
    from abench.latents import few_latents

    return few_latents


def _tokens(residual: Tensor, sae: SAE) -> Tensor:
    """The residual stream as [tokens, d_model], on the SAE's device and in its dtype."""
    return residual.reshape(-1, residual.shape[-1]).to(sae.device, sae.dtype)


def _unit(direction: Tensor) -> Tensor:
    norm = float(direction.float().norm()) if direction.ndim == 1 else math.nan
    if not (norm > 0 and math.isfinite(norm)):
        raise UserError(
            f"a direction must be a vector [d_model] with a finite norm above 0, not {list(direction.shape)} "
            f"with norm {norm:g}"
        )
    return direction.detach().float() / norm
