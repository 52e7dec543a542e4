"""What tasks share: codes of texts pooled over their tokens, and how often each pole of a latent fires.

The language model runs once over each text; while its activations are in memory every SAE of the group
encodes them. What is kept is pooled and sparse, [texts, latents] with both poles apart, never tokens × width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_array, hstack, vstack
from torch import Tensor

from abench.activations import ordinary
from abench.decoding import output_gain, residual_codes, row_lengths
from abench.errors import UserError
from abench.models import LanguageModel
from abench.task import Context
from abench.views import SplitSAE, base_of

if TYPE_CHECKING:
    from abench.steps.codes import SparseCodes

_CODES_AT_ONCE = 1 << 24
"""Tokens × latents of one block, were it dense."""
_TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 32_768}

T = TypeVar("T")


@dataclass(frozen=True)
class PoleCodes:
    """One SAE's codes in units of the residual stream, pooled over tokens: sparse [texts, latents], float32.

    Mean codes of a text are `positive − negative`; both are ≥ 0 and belong to the poles of the same latents.
    """

    positive: csr_array
    negative: csr_array | None
    """None if no code was negative."""

    @property
    def latents(self) -> int:
        return int(self.positive.shape[1])

    def means(self, texts: Any = slice(None)) -> tuple[Tensor, Tensor]:
        """Mean over the given texts (an index) of each pole, two tensors [latents] in float64."""
        positive = _mean(self.positive[texts])
        negative = torch.zeros_like(positive) if self.negative is None else _mean(self.negative[texts])
        return positive, negative

    def columns(self, latents: Any, texts: Any = slice(None)) -> Tensor:
        """Mean codes, with sign, of the given latents: dense [texts, latents given] in float32."""
        dense = self.positive[texts][:, latents].toarray()
        if self.negative is not None:
            dense = dense - self.negative[texts][:, latents].toarray()
        return torch.from_numpy(np.ascontiguousarray(dense, dtype=np.float32))

    def split(self) -> "PoleCodes":
        """The same codes of the SAE in the split view, positive poles first."""
        if self.negative is None:
            empty = csr_array(self.positive.shape, dtype=np.float32)
            return PoleCodes(csr_array(hstack([self.positive, empty], format="csr")), None)
        return PoleCodes(csr_array(hstack([self.positive, self.negative], format="csr")), None)


@dataclass(frozen=True)
class PoleRates:
    """Share of tokens at which each pole of each latent fires, [latents] in float64."""

    positive: Tensor
    negative: Tensor

    def split(self) -> "PoleRates":
        """The same rates of the SAE in the split view."""
        both = torch.cat([self.positive, self.negative])
        return PoleRates(both, torch.zeros_like(both))


class OfPoles(Protocol):
    """A result about the poles of an SAE's latents."""

    def split(self) -> Self:
        """The same of the SAE in the split view."""


Poles = TypeVar("Poles", bound=OfPoles)


class OfEach(Generic[Poles]):
    """A result for each SAE of a group. An SAE that failed raises its own error, and only when asked for."""

    def __init__(self) -> None:
        self._results: dict[Any, Poles] = {}
        self._errors: dict[Any, Exception] = {}

    def keep(self, sae: Any, result: Poles) -> None:
        self._results[sae] = result

    def fail(self, sae: Any, error: Exception) -> None:
        self._errors[sae] = error

    def failed(self, sae: Any) -> bool:
        return sae in self._errors

    def attempt(self, sae: Any, work: Callable[[Any], None]) -> None:
        """Do an SAE's part of a shared pass; its failure is kept for it and does not stop the others."""
        if self.failed(sae):
            return
        try:
            work(sae)
        except Exception as error:
            self.fail(sae, error)

    def __call__(self, sae: Any) -> Poles:
        """The result for an SAE, in the view it is seen in."""
        base = base_of(sae)
        if base in self._errors:
            raise self._errors[base]
        result = self._results[base]
        return result.split() if isinstance(sae, SplitSAE) else result


@dataclass(frozen=True)
class Pooled:
    """Texts, pooled: means over their ordinary tokens (special ones are left out)."""

    residual: Tensor
    """[texts, d_model], float32, on the CPU."""
    codes: OfEach[PoleCodes]
    """`pooled.codes(sae)`: the codes of an SAE that was in `ctx.saes`, in the view it is seen in."""


def pool(lm: LanguageModel, texts: Sequence[str], ctx: Context, *, context: int) -> Pooled:
    """Residual stream and codes of all of `ctx.saes`, averaged over the tokens of each text.

    Texts are cut to `context` tokens, BOS included. Codes are in units of the residual stream (see
    `residual_codes`), so that no token counts more than another. Raises UserError for a text that has nothing
    to average over: no tokens, or special ones alone. An SAE whose encoder fails costs only its own codes.
    """
    saes = tuple(dict.fromkeys(ctx.saes))
    rows = token_rows(lm, texts, context)
    _check_ordinary(lm, texts, rows)
    residual = torch.zeros(len(texts), lm.d_model)
    codes: OfEach[PoleCodes] = OfEach()
    blocks: dict[Any, list[_Block]] = {sae: [] for sae in saes}
    order = []
    for numbers, tokens, mask in right_padded(rows, lm):
        x = lm.residual(tokens, ctx.site)[mask].float()
        owner = torch.arange(len(numbers), device=x.device).repeat_interleave(mask.sum(1))
        count = mask.sum(1, keepdim=True).float()
        residual[numbers] = (_summed(x, owner, len(numbers)) / count).cpu()
        order += numbers
        for sae in saes:
            codes.attempt(sae, lambda s: blocks[s].append(_Block.of(s, x, owner, count)))  # noqa: B023
    back = np.argsort(order)
    for sae in saes:
        if not codes.failed(sae):
            codes.keep(sae, _joined(blocks.pop(sae), back))
    return Pooled(residual, codes)


def firing_rates(lm: LanguageModel, tokens: Tensor, ctx: Context) -> OfEach[PoleRates]:
    """How often each pole fires at ordinary tokens of full rows [rows, context], for each of `ctx.saes`."""
    saes = tuple(dict.fromkeys(ctx.saes))
    rates: OfEach[PoleRates] = OfEach()
    counts: dict[Any, Tensor] = {}
    seen = 0
    for part in torch.split(tokens, max(1, _tokens_at_once(lm) // tokens.shape[1])):
        x = lm.residual(part, ctx.site)[ordinary(part, lm).to(lm.device)].float()
        seen += len(x)
        for sae in saes:
            rates.attempt(sae, lambda s: _count(s, x, counts))  # noqa: B023
    for sae in saes:
        if not rates.failed(sae):
            positive, negative = (counts[sae].double() / max(seen, 1)).cpu()
            rates.keep(sae, PoleRates(positive, negative))
    return rates


def sparse_codes(sae: Any, x: Tensor) -> csr_array:
    """An SAE's codes of activations x [tokens, d_in], as a sparse array [tokens, latents] in float32.

    The values are those of `residual_codes(sae, x)`: in units of the residual stream. Faster than it where
    few latents are active.
    """
    return _residual_csr(sae, x.to(sae.device))


def token_rows(lm: LanguageModel, texts: Sequence[str], context: int) -> list[list[int]]:
    """Token ids of each text, cut to `context` tokens: behind BOS if the tokenizer has one, without EOS.

    Raises UserError for a text without tokens.
    """
    start = [] if lm.bos_id is None else [lm.bos_id]
    limit = min(context, lm.max_context or context)
    rows = []
    for number, ids in enumerate(lm.token_ids(list(texts))):
        if not ids:
            raise UserError(f"text {number} of {len(texts)} has no tokens: {texts[number]!r}")
        # A tokenizer may write BOS itself although it was asked not to.
        rows.append((start + ids if ids[: len(start)] != start else ids)[:limit])
    return rows


def _check_ordinary(lm: LanguageModel, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
    """Raises UserError for a row of special tokens alone: a mean over no tokens is no number."""
    for number, row in enumerate(rows):
        if not set(row) - lm.special_ids:
            raise UserError(
                f"text {number} of {len(texts)} has no tokens but special ones among its first {len(row)}: "
                f"{texts[number]!r}"
            )


def right_padded(
    rows: Sequence[Sequence[int]], lm: LanguageModel
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches of rows of like length: their numbers, tokens [batch, longest] and the mask of ordinary tokens.

    Padding stands on the right, where a causal model cannot see it from any token before.
    """
    longest_first = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    while longest_first:
        width = len(rows[longest_first[0]])
        size = max(1, _tokens_at_once(lm) // width)
        numbers, longest_first = longest_first[:size], longest_first[size:]
        padding = next(iter(lm.special_ids))
        tokens = torch.full((len(numbers), width), padding, dtype=torch.int64)
        for place, number in enumerate(numbers):
            tokens[place, : len(rows[number])] = torch.tensor(rows[number])
        yield numbers, tokens, ordinary(tokens, lm).to(lm.device)


@dataclass(frozen=True)
class _Block:
    """Pooled codes of the texts of one batch."""

    positive: csr_array
    negative: csr_array | None

    @classmethod
    def of(cls, sae: Any, x: Tensor, owner: Tensor, count: Tensor) -> "_Block":
        parts = zip(*(torch.split(each, _rows_at_once(sae)) for each in (x, owner)), strict=True)
        positive, negative = zip(*(_means(sae, part, owners, count) for part, owners in parts), strict=True)
        total = sum(negative[1:], negative[0])
        return cls(csr_array(sum(positive[1:], positive[0])), csr_array(total) if total.nnz else None)


def _means(sae: Any, x: Tensor, owner: Tensor, count: Tensor) -> tuple[csr_array, csr_array]:
    """What some tokens add to the means [texts, latents] of either pole."""
    if _active().many_are_active(sae, x):
        z = residual_codes(sae, x).float()
        poles = (_summed(pole.clamp_min_(0), owner, len(count)) / count for pole in (-z, z))
        negative, positive = (csr_array(pole.cpu().numpy()) for pole in poles)
        return positive, negative
    codes = _residual_csr(sae, x)
    average = _averages(owner.cpu(), count.cpu())
    return average @ codes.maximum(0), average @ (-codes).maximum(0)


def _active() -> Any:
    # sae_lens takes seconds to import, and who only lists the tasks does not need it.
    from abench import active

    return active


def _residual_csr(sae: Any, x: Tensor) -> csr_array:
    """The codes that differ from zero, in units of the residual stream."""
    codes = _active().active_codes(sae, x)
    gain, lengths = output_gain(sae, x), row_lengths(sae)
    values = codes.values
    if gain is not None:
        values = values * gain.float().flatten().repeat_interleave(codes.offsets.diff())
    if lengths is not None:
        values = values * codes.spread(lengths.float())
    return _csr(codes, values)


def _csr(codes: "SparseCodes", values: Tensor) -> csr_array:
    parts = (values, codes.columns, codes.offsets)
    shape = (len(codes.offsets) - 1, codes.width)
    return csr_array(tuple(part.cpu().numpy() for part in parts), shape=shape)


def _averages(owner: Tensor, count: Tensor) -> csr_array:
    """[texts, tokens]: its product with values of tokens is their mean over each text."""
    tokens = np.arange(len(owner) + 1)
    turned = csr_array(((1 / count.view(-1)[owner]).numpy(), owner.numpy(), tokens), (len(owner), len(count)))
    return turned.T.tocsr()


def _summed(values: Tensor, owner: Tensor, texts: int) -> Tensor:
    """Sums of the rows [tokens, n] that belong to each text, [texts, n]."""
    return values.new_zeros(texts, values.shape[1]).index_add_(0, owner, values)


def _joined(blocks: Sequence[_Block], back: "np.ndarray[Any, Any]") -> PoleCodes:
    """The blocks' texts in their own order again."""
    positive = csr_array(vstack([block.positive for block in blocks], format="csr"))[back]
    if all(block.negative is None for block in blocks):
        return PoleCodes(positive, None)
    parts = [
        csr_array(block.positive.shape, dtype=np.float32) if block.negative is None else block.negative
        for block in blocks
    ]
    return PoleCodes(positive, csr_array(vstack(parts, format="csr"))[back])


def _count(sae: Any, x: Tensor, counts: dict[Any, Tensor]) -> None:
    for part in torch.split(x, _rows_at_once(sae)):
        if _active().many_are_active(sae, part):
            z = sae.encode(part.to(sae.dtype))
            fired = torch.stack([(z > 0).sum(0), (z < 0).sum(0)])
        else:
            fired = torch.stack(_active().firings(_active().active_codes(sae, part)))
        counts[sae] = counts[sae] + fired if sae in counts else fired


def _rows_at_once(sae: Any) -> int:
    return max(1, _CODES_AT_ONCE // int(sae.cfg.d_sae))


def _tokens_at_once(lm: LanguageModel) -> int:
    return _TOKENS_AT_ONCE["cpu" if lm.device.type == "cpu" else "cuda"]


def _mean(rows: csr_array) -> Tensor:
    if rows.shape[0] == 0:
        raise UserError("there are no texts to average over")
    sums: Tensor = torch.from_numpy(np.asarray(rows.sum(axis=0, dtype=np.float64))).reshape(-1)
    return sums / int(rows.shape[0])
