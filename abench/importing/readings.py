"""Other ways to read the same weights: what an SAE would do if its files left out or misstated something."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from abench.importing.fit import Reconstruct
from abench.latents.encoders import GatedRule, rule_of
from abench.variants import abs_top_k, top_k, two_sided_jump


@dataclass(frozen=True)
class Reading:
    """One way to encode and decode with an SAE's weights."""

    what: str
    """Completes "It fits better ..."."""
    reconstruct: Reconstruct


def as_it_is(sae: Any) -> Reconstruct:
    """The SAE's own encoding and decoding."""
    return partial(_own, sae)


def other_readings(sae: Any, k: int | None, x: Tensor) -> Iterator[Reading]:
    """All other readings that the SAE's parts allow; `k` is the number of active latents that it promises.

    Factors of the input are estimated from activations x [tokens, d_in].
    """
    yield from _scaled(sae, x)
    if _is_known(sae):
        yield from _other_bias(sae)
        yield from _other_norms(sae)
        if not isinstance(rule_of(sae), GatedRule):
            yield from _other_activations(sae, k)


def _own(sae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    codes = sae.encode(x.to(sae.dtype) if hasattr(sae, "dtype") else x)
    return codes, sae.decode(codes)


def _is_known(sae: Any) -> bool:
    return rule_of(sae) is not None


def _scaled(sae: Any, x: Tensor) -> Iterator[Reading]:
    norms, d_in = x.norm(dim=-1), x.shape[-1]
    if not float(norms.sum()):
        return
    average = d_in**0.5 / float(norms.mean())
    unit = 1 / float(norms.square().mean().sqrt())
    yield Reading(
        f"if its input is multiplied by {average:.3g}, for an average norm of √d_in (a missing input scale)",
        partial(_rescaled, sae, average),
    )
    yield Reading(
        f"if its input is multiplied by {unit:.3g}, for a mean squared norm of 1 (a missing input scale)",
        partial(_rescaled, sae, unit),
    )
    yield Reading(
        "if the mean over d_in is subtracted from each token, as transformer-lens's processed models have it",
        partial(_centred, sae),
    )


def _rescaled(sae: Any, factor: float, x: Tensor) -> tuple[Tensor, Tensor]:
    codes, output = _own(sae, x * factor)
    return codes, output / factor


def _centred(sae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(dim=-1, keepdim=True)
    codes, output = _own(sae, x - mean)
    return codes, output + mean


def _other_bias(sae: Any) -> Iterator[Reading]:
    subtracts = bool(sae.cfg.apply_b_dec_to_input)
    what = (
        "if the decoder's bias is not subtracted before encoding (a pre-encoder bias that is applied twice)"
        if subtracts
        else "if the decoder's bias is subtracted before encoding (a missing pre-encoder bias)"
    )
    yield Reading(what, partial(_own, _changed(sae, apply_b_dec_to_input=not subtracts)))


def _other_norms(sae: Any) -> Iterator[Reading]:
    rescales = getattr(sae.cfg, "rescale_acts_by_decoder_norm", None)
    plain = _changed(sae, rescale_acts_by_decoder_norm=False) if rescales else sae
    yield Reading(
        "if the decoder's rows are divided by their norms (norms that are folded into the encoder only)",
        partial(_with_unit_rows, plain),
    )
    if rescales is not None:
        how = "without" if rescales else "with"
        yield Reading(
            f"if latents are ranked {how} the norms of their decoder rows (norms that are not folded)",
            partial(_own, _changed(sae, rescale_acts_by_decoder_norm=not rescales)),
        )


def _with_unit_rows(sae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    codes = sae.encode(x)
    norms = sae.W_dec.norm(dim=-1).clamp(min=1e-8)
    # The length of a code is what the row's norm would multiply.
    return codes, sae.decode(codes / norms)


def _changed(sae: Any, **settings: Any) -> Any:
    """The same SAE, with the same tensors, under other settings."""
    other = copy(sae)
    other.cfg = replace(sae.cfg, **settings)
    return other


def _other_activations(sae: Any, k: int | None) -> Iterator[Reading]:
    yield Reading("with all positive latents (ReLU)", partial(_activated, sae, Tensor.relu))
    if hasattr(sae, "threshold"):
        jump = partial(two_sided_jump, threshold=sae.threshold)
        yield Reading("with latents beyond the threshold in absolute value", partial(_activated, sae, jump))
    if k is not None and 0 < k < sae.W_dec.shape[0]:
        yield Reading(
            f"with each token's {k} largest latents (TopK)", partial(_activated, sae, partial(top_k, k=k))
        )
        yield Reading(
            f"with each token's {k} latents of largest absolute value (AbsTopK)",
            partial(_activated, sae, partial(abs_top_k, k=k)),
        )


def _activated(sae: Any, activation: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    u = sae.process_sae_in(x) @ sae.W_enc + sae.b_enc
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        u = u * sae.W_dec.norm(dim=-1)
    codes = activation(u)
    return codes, sae.decode(codes)
