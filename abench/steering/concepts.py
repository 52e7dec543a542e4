"""What distinguishes two lists of prompts: a direction (difference in means), or one latent of an SAE."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from abench.errors import UserError
from abench.latents.decoding import residual_codes
from abench.latents.of_each import OfEach
from abench.latents.pooling import pool
from abench.latents.views import base_of
from abench.lm.models import LanguageModel
from abench.lm.tokens import prompt_rows, right_padded
from abench.sae import SAE

Pooling = Literal["mean", "last"]
"""Pooling over a prompt's tokens, special tokens excluded: their mean, or the last one."""


@dataclass(frozen=True, eq=False)
class Concept:
    """The difference in means of two lists of prompts."""

    direction: Tensor
    """[d_model], unit norm, float32, on the CPU; points from the negative to the positive prompts."""
    norm: float
    """Norm of the difference."""
    activation_norm: float
    """Mean norm of the residual stream over the prompts' tokens, special tokens excluded."""

    def __repr__(self) -> str:
        return f"Concept(d_model {len(self.direction)}, norm {self.norm:.4g} of {self.activation_norm:.4g})"


@dataclass(frozen=True, eq=False)
class LatentDifferences:
    """Mean pooled codes of the positive minus those of the negative prompts, for every latent of an SAE.

    In units of the residual stream: the distance by which the difference moves it.
    """

    positive: Tensor
    """Differences of relu(z), [latents], float64."""
    negative: Tensor
    """Differences of relu(−z), [latents], float64."""

    def __repr__(self) -> str:
        most = f"latent {self.latent} by {float(self.values[self.latent]):+.4g}"
        return f"LatentDifferences({len(self.positive)} latents; most differs {most})"

    @property
    def values(self) -> Tensor:
        """Differences of the signed codes, [latents], float64."""
        return self.positive - self.negative

    @property
    def latent(self) -> int:
        """The latent whose difference moves the residual stream most."""
        return int(self.values.abs().argmax())

    @property
    def sign(self) -> int:
        """The pole of `latent` that represents the positive prompts, 1 or −1; 0 if no latent differs."""
        return int(self.values[self.latent].sign())

    def split(self) -> "LatentDifferences":
        """The same differences in the split view."""
        both = torch.cat([self.positive, self.negative])
        return LatentDifferences(both, torch.zeros_like(both))


def mean_difference(
    lm: LanguageModel, positive: Sequence[str], negative: Sequence[str], site: str, *, pooling: Pooling
) -> Concept:
    """The direction from the negative to the positive prompts at a site; all prompts have equal weight.

    Each prompt is pooled first, then prompts are averaged (the paper's code averages over the tokens of all
    prompts at once). Raises UserError for fewer than two prompts on a side, for a prompt without tokens or
    longer than the model's context, and if the two sides do not differ.
    """
    prompts = checked_prompts(lm, positive, negative)
    [difference], activation_norm = pooled_differences(lm, prompts, len(positive), site, [pooling])
    norm = float(difference.norm())
    if norm == 0:
        raise UserError(f"the positive and the negative prompts do not differ at {site}")
    return Concept((difference / norm).float(), norm, activation_norm)


def pooled_differences(
    lm: LanguageModel, prompts: Sequence[str], positive: int, site: str, poolings: Sequence[Pooling | int]
) -> tuple[Tensor, float]:
    """Mean of the first `positive` prompts minus mean of the others, [poolings, d_model] in float64.

    Also the mean norm of the residual stream over all tokens of the prompts. A pooling may be a token's
    position, counted from the end of each prompt without special tokens: −1 is `last`, −2 is the token before
    it. Raises UserError for a position that a prompt does not have.
    """
    pooled, norms = torch.zeros(len(poolings), len(prompts), lm.d_model), torch.zeros(2, dtype=torch.float64)
    for numbers, x, mask in _residuals(lm, prompts, site):
        for each, pooling in zip(pooled, poolings, strict=True):
            each[numbers] = _pooled(x, mask, pooling).cpu()
        lengths = x[mask].norm(dim=-1).double()
        norms += torch.stack([lengths.sum(), lengths.new_tensor(len(lengths))]).cpu()
    differences = torch.stack([_contrast(each.double(), positive) for each in pooled])
    return differences, float(norms[0] / norms[1])


def latent_differences(
    lm: LanguageModel,
    saes: Sequence[SAE],
    positive: Sequence[str],
    negative: Sequence[str],
    site: str,
    *,
    pooling: Pooling,
) -> OfEach[LatentDifferences]:
    """For each SAE at a site, the differences of its latents: `differences(sae).latent`, `.sign`.

    All SAEs encode the activations of one forward pass. Flipping the signs of latents, or reordering them,
    selects the same latent. The error of an SAE that fails is raised when its result is requested.
    Raises UserError as `mean_difference` does.
    """
    prompts = checked_prompts(lm, positive, negative)
    differences: OfEach[LatentDifferences] = OfEach()
    bases = differences.taken(base_of(sae) for sae in saes)
    poles = _mean_codes if pooling == "mean" else _last_codes
    of_bases = poles(lm, bases, prompts, site, len(positive))
    for sae in bases:
        differences.attempt(sae, lambda s: differences.keep(s, of_bases(s)))
    return differences


def _mean_codes(
    lm: LanguageModel, saes: Sequence[SAE], prompts: Sequence[str], site: str, positive: int
) -> OfEach[LatentDifferences]:
    context = lm.max_context or max(map(len, prompt_rows(lm, prompts)))
    codes = pool(lm, prompts, site=site, saes=saes, context=context).codes

    def differences(sae: SAE) -> LatentDifferences:
        ours, others = codes(sae).means(slice(positive)), codes(sae).means(slice(positive, None))
        return LatentDifferences(ours[0] - others[0], ours[1] - others[1])

    return _of_each(saes, differences)


def _last_codes(
    lm: LanguageModel, saes: Sequence[SAE], prompts: Sequence[str], site: str, positive: int
) -> OfEach[LatentDifferences]:
    last = last_residuals(lm, prompts, site)

    def differences(sae: SAE) -> LatentDifferences:
        z = residual_codes(sae, last.to(sae.device)).double().cpu()
        return LatentDifferences(_contrast(z.clamp_min(0), positive), _contrast((-z).clamp_min(0), positive))

    return _of_each(saes, differences)


def last_residuals(lm: LanguageModel, prompts: Sequence[str], site: str) -> Tensor:
    """The activations at a site at each prompt's last token that is text, [prompts, d_model]."""
    last = torch.zeros(len(prompts), lm.d_model, device=lm.device)
    for numbers, x, mask in _residuals(lm, prompts, site):
        last[numbers] = _pooled(x, mask, "last")
    return last


def _of_each(
    saes: Sequence[SAE], differences: Callable[[Any], LatentDifferences]
) -> OfEach[LatentDifferences]:
    results: OfEach[LatentDifferences] = OfEach()
    for sae in saes:
        results.attempt(sae, lambda s: results.keep(s, differences(s)))
    return results


def _residuals(
    lm: LanguageModel, prompts: Sequence[str], site: str
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches: prompt numbers, residual streams [batch, longest, d_model] in float32, mask of text tokens."""
    for numbers, tokens, mask in right_padded(prompt_rows(lm, prompts), lm):
        yield numbers, lm.residual(tokens, site).float(), mask


def _pooled(x: Tensor, mask: Tensor, pooling: Pooling | int) -> Tensor:
    """x [batch, longest, d_model] pooled over the positions where the mask is True: [batch, d_model]."""
    if pooling == "mean":
        return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    back = 1 if pooling == "last" else -pooling
    # 1 at a row's last token of text, 2 at the one before it, and so on.
    from_end = mask.flip(1).cumsum(1).flip(1)
    here = mask & (from_end == back)
    if back < 1 or not bool(here.any(1).all()):
        raise UserError(
            f"a prompt has only {int(mask.sum(1).min())} tokens, and no token at position {pooling}"
        )
    return x[here]


def _contrast(values: Tensor, positive: int) -> Tensor:
    """Mean of the first `positive` rows minus mean of the others: [columns], from [prompts, columns]."""
    return values[:positive].mean(0) - values[positive:].mean(0)


def checked_prompts(lm: LanguageModel, positive: Sequence[str], negative: Sequence[str]) -> list[str]:
    """Positive and negative prompts in one list; raises UserError for prompts that cannot be used."""
    for side, prompts in (("positive", positive), ("negative", negative)):
        if len(prompts) < 2:
            raise UserError(f"a difference in means needs at least 2 {side} prompts, not {len(prompts)}")
        for number, (prompt, ids) in enumerate(zip(prompts, lm.token_ids(list(prompts)), strict=True), 1):
            if not set(ids) - lm.special_ids:
                raise UserError(f"{side} prompt {number} of {len(prompts)} has no tokens: {prompt!r}")
    both = [*positive, *negative]
    prompt_rows(lm, both)
    return both
