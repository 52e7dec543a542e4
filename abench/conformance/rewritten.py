"""Equivalent SAEs and models for the check of tasks: scores must be the same as for the originals.

SAEs with latents flipped, reordered, written out as [D, −D], in other units or of an unknown class; and a
language model, or a synthetic one, whose residual stream is larger by a factor while its predictions stay
the same.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from abench.data.activations import ActivationSource
from abench.latents.decoding import output_gain
from abench.lm.models import LanguageModel
from abench.variants.normalisation import defined_at_zero


def flipped(sae: Any, seed: int = 0) -> Any:
    """The same function with the sign of about half of its latents flipped in encoder and decoder."""
    sign = torch.randint(0, 2, (sae.cfg.d_sae,), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    return _rewritten(sae, lambda each, axis: each * (sign if axis == each.ndim - 1 else sign[:, None]))


def permuted(sae: Any, seed: int = 0) -> Any:
    """The same function with its latents in another order."""
    order = torch.randperm(sae.cfg.d_sae, generator=torch.Generator().manual_seed(seed))
    return _rewritten(sae, lambda each, axis: each.index_select(axis, order))


def normalising(sae: Any, kind: str) -> Any:
    """An SAE with the same weights and sae-lens's input normalisation `kind`; this is another function."""
    # The weights' own type, which is not the configuration's where an SAE has been made a double one.
    other = type(sae)(replace(sae.cfg, normalize_activations=kind)).to(sae.W_dec.device, sae.W_dec.dtype)
    other.load_state_dict(sae.state_dict())
    return defined_at_zero(other.eval().requires_grad_(False))


def _copied(sae: Any) -> Any:
    # Not deepcopy: a copy of an SAE that normalises would write a token's statistics into the original.
    return normalising(sae, sae.cfg.normalize_activations)


def _rewritten(sae: Any, change: Callable[[Tensor, int], Tensor]) -> Any:
    """A copy whose encoder and decoder are changed along their axis of latents."""
    other = _copied(sae)
    with torch.no_grad():
        for weight, axis in ((other.W_enc, 1), (other.b_enc, 0), (other.W_dec, 0)):
            weight.copy_(change(weight.clone(), axis))
    return other


class Wide:
    """The explicit non-negative SAE [D, −D] of a signed one: relu of both signs of each code."""

    def __init__(self, sae: Any) -> None:
        self._sae = sae
        self.W_dec = torch.cat([sae.W_dec, -sae.W_dec])
        self.W_enc = torch.cat([sae.W_enc, -sae.W_enc], dim=1)
        self.b_dec, self.device, self.dtype = sae.b_dec, sae.device, sae.dtype
        self.cfg = SimpleNamespace(d_in=sae.cfg.d_in, d_sae=2 * sae.cfg.d_sae)

    def encode(self, x: Tensor) -> Tensor:
        z = self._sae.encode(x)
        return torch.cat([torch.relu(z), torch.relu(-z)], dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        decoded: Tensor = codes @ self.W_dec + self.b_dec
        return decoded


class Bare:
    """The same SAE with nothing but the three things that `abench.as_sae` requires."""

    def __init__(self, sae: Any) -> None:
        self._sae = sae

    @property
    def W_dec(self) -> Tensor:  # noqa: N802 - sae-lens's name
        weights: Tensor = self._sae.W_dec
        return weights

    def encode(self, x: Tensor) -> Tensor:
        codes: Tensor = self._sae.encode(x)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        x_hat: Tensor = self._sae.decode(codes)
        return x_hat


class InOtherUnits:
    """The same function with codes in other units: residual-stream units times one factor per latent.

    Its config shows no normalisation: it decodes its codes times its decoder rows, plus a constant. Like an
    SAE of sae-lens that normalises, it decodes only the activations that it encoded last.
    """

    def __init__(self, sae: Any, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        # Powers of two, 32 to 512: multiplying by them does not round, so ties are decided the same way.
        factors = 2.0 ** torch.randint(5, 10, (sae.cfg.d_sae,), generator=generator)
        self._sae, self._factors, self._unit = sae, factors, factors
        self.W_dec = sae.W_dec / factors[:, None]
        self.W_enc = torch.cat([sae.W_enc, sae.b_enc[None]]) * factors
        self.b_enc, self.b_dec = torch.zeros_like(sae.b_enc), sae.b_dec
        self.device, self.dtype = sae.device, sae.dtype
        self.cfg = SimpleNamespace(d_in=sae.cfg.d_in, d_sae=sae.cfg.d_sae)

    def process_sae_in(self, x: Tensor) -> Tensor:
        """The input of the encoder, [..., d_in + 1]; the last entry multiplies the bias."""
        sae_in = self._sae.process_sae_in(x)
        with_one = torch.cat([sae_in, torch.ones_like(sae_in[..., :1])], dim=-1)
        gain = output_gain(self._sae, x)
        return with_one if gain is None else with_one * gain

    def encode(self, x: Tensor) -> Tensor:
        gain = output_gain(self._sae, x)
        self._unit = self._factors if gain is None else gain * self._factors
        codes: Tensor = self._sae.encode(x) * self._unit
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        # Where a unit is 0, a latent adds nothing for any code.
        decoded: Tensor = self._sae.decode(torch.where(self._unit > 0, codes / self._unit, 0.0))
        return decoded


def larger_stream(lm: LanguageModel | ActivationSource, factor: float) -> LanguageModel | ActivationSource:
    """The bundled or a synthetic model with `factor` times the residual stream and the same predictions.

    For a power of two, predictions are equal to the last bit. The weights that write into the stream are
    scaled, and so is the ε of the norms that read it.
    """
    if not isinstance(lm, LanguageModel):
        return _larger_synthetic(lm, factor)
    model = deepcopy(lm.model)
    decoder = model.get_decoder()
    blocks = decoder.layers
    with torch.no_grad():
        writers = [block.self_attn.o_proj for block in blocks] + [block.mlp.down_proj for block in blocks]
        for writer in [decoder.embed_tokens, *writers]:
            writer.weight.mul_(factor)
        # The unembedding is tied to the embedding, which has just been scaled.
        decoder.norm.weight.div_(factor)
    norms = [norm for block in blocks for norm in (block.input_layernorm, block.post_attention_layernorm)]
    for norm in [*norms, decoder.norm]:
        norm.variance_epsilon *= factor**2
    return LanguageModel(model, lm.tokenizer, name=lm.name, eos_after_documents=lm.eos_after_documents)


def _larger_synthetic(model: Any, factor: float) -> ActivationSource:
    spec = model.spec
    sizes = {name: factor * getattr(spec, name) for name in ("mean", "sd", "bias", "noise")}
    larger: ActivationSource = type(model)(
        spec.model_copy(update=sizes), model.d_model, name=model.name, device=str(model.device)
    )
    return larger


def for_larger_stream(sae: Any, factor: float) -> Any:
    """The same function for a residual stream `factor` times as large, for an SAE that does not normalise.

    Only for SAEs without thresholds, whose selection of latents does not depend on the factor.
    """
    other = _copied(sae)
    with torch.no_grad():
        other.b_enc.mul_(factor)
        other.b_dec.mul_(factor)
    return other
