"""RAVEL's intervention: some latents at the entity take the values that they have in another prompt.

The latents are learnt for each attribute, as a mask (sae-bench's differentiable binary masking). The model is
frozen, and everything up to the site is precomputed for all SAEs: a training step runs only the blocks after
the site, and computes the gradient of the mask only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abench import UserError

from .._shared.passes import unseen
from .answers import PromptRow, complete
from .bank import Bank
from .pairs import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from abench import SAE, LanguageModel

COLDEST = 1e-4
"""The temperature of the last step; that of the first step is 1."""


@dataclass(frozen=True)
class Fit:
    """Training settings of a mask."""

    learning_rate: float
    epochs: int
    batch_size: int


@dataclass(frozen=True)
class Effect:
    """The effect of an intervention on the test pairs."""

    cause: float
    """Share of the cause pairs in which the model gives the source's answer."""
    isolation: float
    """Share of the isolation pairs in which the model keeps the base's answer."""


def learn_mask(
    sae: SAE,
    pairs: Sequence[Pair],
    bank: Bank,
    lm: LanguageModel,
    site: str,
    fit: Fit,
    done: Callable[[int], None] = unseen,
) -> Tensor:
    """The latents to exchange, [latents] (bool); the result does not depend on a seed.

    `done` receives the number of pairs so far, over all epochs.

    Adam optimises one parameter per latent, starting at 0. During training, a latent is exchanged to the
    degree sigmoid(parameter / temperature), with the temperature falling from 1 to `COLDEST`; finally it is
    exchanged if its parameter is above 0.
    """
    import torch

    batches = [pairs[i : i + fit.batch_size] for i in range(0, len(pairs), fit.batch_size)]
    steps = fit.epochs * len(batches)
    temperatures = torch.logspace(0, torch.tensor(COLDEST).log10().item(), steps).tolist()
    with torch.inference_mode(False), torch.enable_grad():
        mask = torch.zeros(sae.cfg.d_sae, device=lm.device, requires_grad=True)
        adam = torch.optim.Adam([mask], lr=fit.learning_rate)
        seen = 0
        for temperature, batch in zip(temperatures, batches * fit.epochs, strict=True):
            try:
                loss = _loss(sae, torch.sigmoid(mask / temperature), batch, bank, lm, site)
                # The gradient of the mask alone, so that the gradients of the SAE stay untouched.
                (mask.grad,) = torch.autograd.grad(loss, mask)
            except torch.OutOfMemoryError as error:
                raise UserError(_too_little(fit.batch_size, error)) from error
            adam.step()
            seen += len(batch)
            done(seen)
    return mask.detach() > 0


def _too_little(batch_size: int, error: BaseException) -> str:
    cause = str(error).partition(" GPU ")[0].strip(" .")
    return (
        f"there is not enough memory for a training step on {batch_size} pairs ({cause}); batches are not "
        "made smaller, because that would change the scores: set task_options.ravel.batch_size to less, or "
        "use a device with more memory"
    )


def _loss(
    sae: SAE, degree: Tensor, pairs: Sequence[Pair], bank: Bank, lm: LanguageModel, site: str
) -> Tensor:
    """Mean cross-entropy of the first token of the correct answers."""
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


def exchanged(sae: SAE, degree: Tensor, pairs: Sequence[Pair], bank: Bank) -> Tensor:
    """Reconstructions of the entity with latents exchanged to a degree between 0 and 1, [pairs, d_model].

    Codes are exchanged in units of the residual stream, so that a latent adds as much as it adds at the
    source even if the SAE normalises each token. The SAE's error is left out, as in sae-bench.
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


def reconstructions(sae: SAE, mask: Tensor, pairs: Sequence[Pair], bank: Bank) -> Tensor:
    """Reconstructions of the entity with the masked latents exchanged, [pairs, d_model].

    Raises ValueError if they are not finite, because the model would still give (meaningless) answers.
    """
    import torch

    from abench import rows_at_once

    with torch.no_grad():
        at_once = rows_at_once(sae)
        blocks = [pairs[i : i + at_once] for i in range(0, len(pairs), at_once)]
        values = torch.cat([exchanged(sae, mask.float(), block, bank) for block in blocks])
        if not bool(values.isfinite().all()):
            raise ValueError("the SAE's reconstructions of entities are not finite")
        return values


def effect(
    values: Tensor,
    pairs: Sequence[Pair],
    bank: Bank,
    lm: LanguageModel,
    site: str,
    most: int,
    done: Callable[[int], None] = unseen,
) -> Effect:
    """Cause and isolation after patching `values` [pairs, d_model] at the entity.

    Judged by completions of `most` tokens. `done` receives the number of pairs so far.
    """
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
    _, right = complete(lm, site, asked, most, start, patch, done)
    return Effect(_share(right, pairs, isolates=False), _share(right, pairs, isolates=True))


def _question(pair: Pair, bank: Bank) -> PromptRow:
    base, target = bank.known[pair.base], bank.known[pair.target]
    return PromptRow(base.row, base.prompt.text, target.prompt.label)


def _share(right: Sequence[bool], pairs: Sequence[Pair], *, isolates: bool) -> float:
    counted = [good for good, pair in zip(right, pairs, strict=True) if pair.isolates == isolates]
    return sum(counted) / len(counted)
