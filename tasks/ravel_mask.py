"""RAVEL's intervention: some latents of the entity take the values they have in another prompt.

Which latents is learnt for each attribute, as a mask (sae-bench's differentiable binary masking). The model
is frozen and everything up to the site lies ready for all SAEs: a step runs only the blocks above the site,
and its only gradient is the mask's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .ravel_answers import Question, complete
from .ravel_bank import Bank
from .ravel_pairs import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from abench import LanguageModel

COLDEST = 1e-4
"""The temperature of the last step; the first one's is 1."""
_CODES_AT_ONCE = 1 << 24
"""Largest dense block of codes, pairs × latents."""


@dataclass(frozen=True)
class Fit:
    """How a mask is learnt."""

    learning_rate: float
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class Effect:
    """What an intervention does to the pairs it was not learnt on."""

    cause: float
    """Share of the pairs that cause in which the source's answer comes."""
    isolation: float
    """Share of the pairs that isolate in which the base's answer stays."""


def learn_mask(sae: Any, pairs: Sequence[Pair], bank: Bank, lm: LanguageModel, site: str, fit: Fit) -> Tensor:
    """Which latents to exchange, [latents] (bool); the seed plays no part.

    Adam on one number a latent, starting at 0; a latent is exchanged to the degree sigmoid(number /
    temperature), with the temperature falling from 1 to `COLDEST`, and in the end if its number is above 0.
    """
    import torch

    batches = [pairs[i : i + fit.batch_size] for i in range(0, len(pairs), fit.batch_size)]
    steps = fit.epochs * len(batches)
    temperatures = torch.logspace(0, torch.tensor(COLDEST).log10().item(), steps).tolist()
    with torch.inference_mode(False), torch.enable_grad():
        mask = torch.zeros(sae.cfg.d_sae, device=lm.device, requires_grad=True)
        adam = torch.optim.Adam([mask], lr=fit.learning_rate)
        for temperature, batch in zip(temperatures, batches * fit.epochs, strict=True):
            loss = _loss(sae, torch.sigmoid(mask / temperature), batch, bank, lm, site)
            # Of the mask alone: the SAE's own gradients are neither wanted nor to be touched.
            (mask.grad,) = torch.autograd.grad(loss, mask)
            adam.step()
    return mask.detach() > 0


def _loss(
    sae: Any, degree: Tensor, pairs: Sequence[Pair], bank: Bank, lm: LanguageModel, site: str
) -> Tensor:
    """Cross-entropy of the first token of the right answers."""
    import torch
    from torch.nn.functional import cross_entropy

    bases = [pair.base for pair in pairs]
    tokens, last = bank.tokens(bases)
    residual = bank.residual(bases, tokens)
    residual[range(len(pairs)), bank.positions(bases)] = exchanged(sae, degree, pairs, bank).to(
        residual.dtype
    )
    logits = lm.next_logits_from(residual, tokens, last, site).float()
    targets = torch.tensor([bank.known[pair.target].first for pair in pairs], device=logits.device)
    return cross_entropy(logits, targets)


def exchanged(sae: Any, degree: Tensor, pairs: Sequence[Pair], bank: Bank) -> Tensor:
    """Reconstructions of the entity with latents exchanged to a degree between 0 and 1: [pairs, d_model].

    A latent adds as much as it adds at the source, also where an SAE normalises each token: codes are
    exchanged in units of the residual stream. The SAE's error is left out, as in sae-bench.
    """
    import torch

    from abench import from_residual_units, residual_codes

    with torch.no_grad():
        at_source, at_base = (
            bank.at_entity(numbers).to(sae.dtype)
            for numbers in ([pair.source for pair in pairs], [pair.base for pair in pairs])
        )
        # The base comes last: an SAE that normalises its input decodes at the scale of what it encoded last.
        source = from_residual_units(sae, at_base, residual_codes(sae, at_source))
        base = sae.encode(at_base)
    decoded: Tensor = sae.decode(((1 - degree) * base + degree * source).to(sae.dtype))
    return decoded


def reconstructions(sae: Any, mask: Tensor, pairs: Sequence[Pair], bank: Bank) -> Tensor:
    """What stands at the entity with the masked latents exchanged, [pairs, d_model].

    Raises ValueError if it is not finite: answers would come all the same, and mean nothing.
    """
    import torch

    with torch.no_grad():
        at_once = max(1, _CODES_AT_ONCE // int(sae.cfg.d_sae))
        blocks = [pairs[i : i + at_once] for i in range(0, len(pairs), at_once)]
        values = torch.cat([exchanged(sae, mask.float(), block, bank) for block in blocks])
        if not bool(values.isfinite().all()):
            raise ValueError("the SAE's reconstructions of entities are not finite")
        return values


def effect(
    values: Tensor, pairs: Sequence[Pair], bank: Bank, lm: LanguageModel, site: str, most: int
) -> Effect:
    """Cause and isolation with `values` [pairs, d_model] at the entity, by completions of `most` tokens."""
    import torch

    values = values.to(lm.model.dtype)
    bases = [pair.base for pair in pairs]
    positions = torch.tensor(bank.positions(bases))

    def start(numbers: list[int], tokens: Tensor) -> Tensor:
        return bank.residual([bases[number] for number in numbers], tokens)

    def patch(numbers: list[int], residual: Tensor) -> Tensor:
        patched = residual.clone()
        patched[range(len(numbers)), positions[numbers]] = values[numbers]
        return patched

    asked = [_question(pair, bank) for pair in pairs]
    _, right = complete(lm, site, asked, most, start, patch)
    return Effect(_share(right, pairs, isolates=False), _share(right, pairs, isolates=True))


def _question(pair: Pair, bank: Bank) -> Question:
    base, target = bank.known[pair.base], bank.known[pair.target]
    return Question(base.row, base.prompt.text, target.prompt.label)


def _share(right: Sequence[bool], pairs: Sequence[Pair], *, isolates: bool) -> float:
    counted = [good for good, pair in zip(right, pairs, strict=True) if pair.isolates == isolates]
    return sum(counted) / len(counted)
