"""Codes of texts, pooled over tokens, and firing rates of each latent's poles, for several SAEs at once.

The language model runs once over each text; while its activations are in memory, every SAE of the group
encodes them. Results are pooled and sparse, [texts, latents] for each pole, never tokens × width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from abench.errors import UserError
from abench.latents.active import active_codes, firings, many_are_active
from abench.latents.codes import PoleCodes, PoleRates, residual_csr
from abench.latents.decoding import residual_codes
from abench.latents.of_each import OfEach
from abench.latents.parts import dense_parts
from abench.latents.reading import Reading
from abench.lm.models import LanguageModel
from abench.lm.tokens import check_ordinary, ordinary, right_padded, token_rows, tokens_at_once
from abench.passes import unseen
from abench.sae import SAE


@dataclass(frozen=True)
class Pooled:
    """Pooled texts: means over each text's tokens, special tokens excluded."""

    residual: Tensor
    """[texts, d_model], float32, on the CPU."""
    codes: OfEach[PoleCodes]
    """`pooled.codes(sae)` gives the codes of one SAE, in that SAE's view."""

    def __repr__(self) -> str:
        return f"Pooled({len(self.residual)} texts, {self.codes!r})"


@torch.no_grad()
def pool(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    site: str,
    saes: Sequence[SAE],
    context: int,
    done: Callable[[int], None] = unseen,
) -> Pooled:
    """The residual stream at a site and the codes of all SAEs, averaged over the tokens of each text.

    Texts are truncated to `context` tokens, including BOS. Codes are in units of the residual stream (see
    `residual_codes`), so all tokens have equal weight. Raises UserError for a text without tokens, or with
    special tokens only. An SAE whose encoder fails loses only its own codes. `done` receives the number of
    texts read so far, e.g. the `advance_to` of a `Context.steps`.
    """
    rows = token_rows(lm, texts, context)
    check_ordinary(lm, texts, rows)
    residual = torch.zeros(len(texts), lm.d_model)
    codes: OfEach[PoleCodes] = OfEach()
    saes = codes.taken(saes)
    blocks: dict[Any, list[_Block]] = {sae: [] for sae in saes}
    order = []
    for numbers, tokens, mask in right_padded(rows, lm):
        x = lm.residual(tokens, site)[mask].float()
        owner = torch.arange(len(numbers), device=x.device).repeat_interleave(mask.sum(1))
        count = mask.sum(1, keepdim=True).float()
        residual[numbers] = (_summed(x, owner, len(numbers)) / count).cpu()
        order += numbers
        for sae in saes:
            codes.attempt(sae, lambda s: blocks[s].append(_Block.of(s, x, owner, count)))  # noqa: B023
        done(len(order))
    back = np.argsort(order)
    for sae in saes:
        if not codes.failed(sae):
            codes.keep(sae, _joined(blocks.pop(sae), back))
    return Pooled(residual, codes)


@overload
def firing_rates(
    lm: LanguageModel | str | Path,
    sae: Any,
    /,
    texts: Sequence[str],
    *,
    site: str | None = None,
    context: int | None = None,
    done: Callable[[int], None] = unseen,
) -> PoleRates: ...


@overload
def firing_rates(
    lm: LanguageModel,
    tokens: Tensor,
    *,
    site: str,
    saes: Sequence[SAE],
    done: Callable[[int], None] = unseen,
) -> OfEach[PoleRates]: ...


def firing_rates(
    lm: Any,
    tokens: Any,
    texts: Sequence[str] | None = None,
    *,
    site: str | None = None,
    saes: Sequence[SAE] = (),
    context: int | None = None,
    done: Callable[[int], None] = unseen,
) -> PoleRates | OfEach[PoleRates]:
    """The share of tokens on which each pole of each latent fires: in texts, or in rows for several SAEs.

    `firing_rates(lm, sae, texts)` reads the texts as in training: packed into rows of `context` tokens (by
    default those of the SAE's training, or 128), at the site that the SAE's configuration states or `site`.
    `lm` may also be what `LanguageModel.load` accepts.

    `firing_rates(lm, tokens, site=..., saes=...)` reads full rows `tokens` [rows, context] once for several
    SAEs at a site. Special tokens are excluded. `done` receives the number of rows read so far. Raises
    UserError for texts without tokens, and for a site that the model lacks or the SAE does not state.
    """
    if texts is None:
        return _rates(lm, tokens, site, saes, done)
    read = Reading.of(lm, tokens, texts, site=site, context=context)
    return _rates(read.lm, read.rows, read.site, [read.sae], done)(read.sae)


@torch.no_grad()
def _rates(
    lm: LanguageModel, tokens: Tensor, site: str | None, saes: Sequence[SAE], done: Callable[[int], None]
) -> OfEach[PoleRates]:
    if site is None:
        raise UserError(
            "firing_rates() of rows of tokens needs the site: give site='blocks.L.hook_resid_post'"
        )
    rates: OfEach[PoleRates] = OfEach()
    saes = rates.taken(saes)
    counts: dict[Any, Tensor] = {}
    seen = rows = 0
    for part in torch.split(tokens, max(1, tokens_at_once(lm) // tokens.shape[1])):
        x = lm.residual(part, site)[ordinary(part, lm).to(lm.device)].float()
        seen += len(x)
        for sae in saes:
            rates.attempt(sae, lambda s: _count(s, x, counts))  # noqa: B023
        rows += len(part)
        done(rows)
    for sae in saes:
        if not rates.failed(sae):
            positive, negative = (counts[sae].double() / max(seen, 1)).cpu()
            rates.keep(sae, PoleRates(positive, negative))
    return rates


@dataclass(frozen=True)
class _Block:
    """Pooled codes of the texts of one batch."""

    positive: csr_array
    negative: csr_array | None

    @classmethod
    def of(cls, sae: SAE, x: Tensor, owner: Tensor, count: Tensor) -> "_Block":
        parts = zip(*(dense_parts(sae, each) for each in (x, owner)), strict=True)
        positive, negative = zip(*(_means(sae, part, owners, count) for part, owners in parts), strict=True)
        total = sum(negative[1:], negative[0])
        return cls(csr_array(sum(positive[1:], positive[0])), csr_array(total) if total.nnz else None)


def _means(sae: SAE, x: Tensor, owner: Tensor, count: Tensor) -> tuple[csr_array, csr_array]:
    """The contribution of tokens x [tokens, d_in] to each pole's means [texts, latents]."""
    if many_are_active(sae, x):
        z = residual_codes(sae, x).float()
        poles = (_summed(pole.clamp_min_(0), owner, len(count)) / count for pole in (-z, z))
        negative, positive = (csr_array(pole.cpu().numpy()) for pole in poles)
        return positive, negative
    codes = residual_csr(sae, x)
    average = _averages(owner.cpu(), count.cpu())
    return average @ codes.maximum(0), average @ (-codes).maximum(0)


def _averages(owner: Tensor, count: Tensor) -> csr_array:
    """A matrix [texts, tokens] whose product with values [tokens, n] is their mean over each text."""
    tokens = np.arange(len(owner) + 1)
    turned = csr_array(((1 / count.view(-1)[owner]).numpy(), owner.numpy(), tokens), (len(owner), len(count)))
    return turned.T.tocsr()


def _summed(values: Tensor, owner: Tensor, texts: int) -> Tensor:
    """Sums [texts, n] of the rows [tokens, n] of each text."""
    return values.new_zeros(texts, values.shape[1]).index_add_(0, owner, values)


def _joined(blocks: Sequence[_Block], back: "np.ndarray[Any, Any]") -> PoleCodes:
    """The blocks joined, with texts back in their original order."""
    positive = csr_array(vstack([block.positive for block in blocks], format="csr"))[back]
    if all(block.negative is None for block in blocks):
        return PoleCodes(positive, None)
    parts = [
        csr_array(block.positive.shape, dtype=np.float32) if block.negative is None else block.negative
        for block in blocks
    ]
    return PoleCodes(positive, csr_array(vstack(parts, format="csr"))[back])


def _count(sae: SAE, x: Tensor, counts: dict[Any, Tensor]) -> None:
    for part in dense_parts(sae, x):
        if many_are_active(sae, part):
            z = sae.encode(part.to(sae.dtype))
            fired = torch.stack([(z > 0).sum(0), (z < 0).sum(0)])
        else:
            fired = torch.stack(firings(active_codes(sae, part)))
        counts[sae] = counts[sae] + fired if sae in counts else fired
