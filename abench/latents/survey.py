"""What all latents of one SAE do on held-out text, gathered in one pass of the model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from abench.errors import UserError
from abench.latents.anyones import usable
from abench.latents.codes import residual_csr
from abench.latents.parts import dense_parts
from abench.latents.word_labels import Followed, WordLabels
from abench.lm.models import LanguageModel
from abench.lm.tokens import ordinary, tokens_at_once
from abench.passes import unseen
from abench.sae import SAE

LEAST_FIRINGS = 20
"""A latent is ranked only if it fires on at least this many tokens; rates of rarer ones are hardly known."""
_COSINES_AT_ONCE = 1 << 24
"""Largest block of cosines, latents × latents: 64 MiB in float32."""


@dataclass(frozen=True, eq=False)
class Survey:
    """An SAE's latents on held-out text; "sides" are the positive and the negative codes, in this order."""

    sae: SAE
    tokens: int
    """Number of tokens read, special ones excluded."""
    firings: Tensor
    """Tokens on which each side of each latent fires, [2, latents] (int64)."""
    peaks: tuple[tuple[str | None, ...], tuple[str | None, ...]]
    """For each side and latent the token with the largest code; None if the side never fires."""
    followed: Sequence[Sequence[Followed | None]] | None
    """For each side and latent the label that it follows best; None if the words have no known labels."""

    @property
    def rates(self) -> Tensor:
        """Share of tokens on which each side of each latent fires, [2, latents] in float64."""
        return self.firings.double() / max(1, self.tokens)

    @cached_property
    def counted(self) -> Tensor:
        """Mask [latents] of those that fire on at least `LEAST_FIRINGS` tokens."""
        return self.firings.sum(0) >= LEAST_FIRINGS

    @cached_property
    def opposites(self) -> tuple[Tensor, Tensor]:
        """`opposites_of` all latents."""
        return self.opposites_of(torch.arange(len(self.counted)))

    def opposites_of(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """For each given latent the counted one with the lowest cosine of decoder rows, and this cosine.

        Both are [latents given]. The cosine is NaN for a latent that is not counted or is the only one.
        """
        counted = self.counted.nonzero().flatten()
        rows = torch.nn.functional.normalize(self.sae.W_dec.detach().float(), dim=-1)
        others = rows[counted]
        partner = torch.zeros(len(latents), dtype=torch.int64)
        cosine = torch.full((len(latents),), torch.nan, dtype=torch.float64)
        mine = self.counted[latents].nonzero().flatten() if len(counted) > 1 else latents[:0]
        for places in torch.split(mine, max(1, _COSINES_AT_ONCE // max(1, len(counted)))):
            cosines = rows[latents[places]] @ others.T
            cosines.masked_fill_(latents[places][:, None] == counted, torch.inf)
            lowest = cosines.min(-1)
            partner[places], cosine[places] = counted[lowest.indices], lowest.values.double()
        return partner, cosine

    @cached_property
    def alignment(self) -> Tensor | None:
        """Cosine of each latent's encoder column and decoder row, [latents]; None without known encoder."""
        encoder, decoder = getattr(self.sae, "W_enc", None), self.sae.W_dec.detach()
        if not isinstance(encoder, Tensor) or encoder.shape != decoder.T.shape:
            return None
        return torch.nn.functional.cosine_similarity(encoder.detach().double().T, decoder.double(), dim=-1)


@torch.no_grad()
def survey(
    lm: LanguageModel,
    sae: Any,
    rows: Tensor,
    *,
    site: str,
    known: Mapping[str, Sequence[str]] | None = None,
    done: Callable[[int], None] = unseen,
) -> Survey:
    """Read full rows of tokens [rows, context] once; `known` gives the labels of words, if there are any.

    `done` receives the number of rows read so far. Raises UserError for rows without ordinary tokens.
    """
    sae = usable(sae)
    pieces = [lm.tokenizer.decode([token]) for token in range(int(rows.max()) + 1)] if known else []
    labels = WordLabels(known, pieces) if known else None
    count, read = _Count(int(sae.cfg.d_sae)), 0
    for part in torch.split(rows, max(1, tokens_at_once(lm) // rows.shape[1])):
        mask = ordinary(part, lm)
        x = lm.residual(part, site)[mask.to(lm.device)].float()
        batch = zip(dense_parts(sae, x), dense_parts(sae, part[mask]), strict=True)
        for activations, tokens in batch:
            sides = count.add(residual_csr(sae, activations.to(sae.device)), tokens.numpy())
            if labels is not None:
                labels.add(tokens.numpy(), [_where(side) for side in sides])
        read += len(part)
        done(read)
    if count.tokens == 0:
        raise UserError("the held-out text has no tokens besides special ones")
    return Survey(
        sae,
        count.tokens,
        torch.from_numpy(count.firings),
        count.peaks(lm),
        None if labels is None else labels.best(count.firings),
    )


class _Count:
    """Firings and the strongest token of each side of each latent, over batches."""

    def __init__(self, width: int) -> None:
        self.tokens = 0
        self.firings = np.zeros((2, width), np.int64)
        self._greatest = np.zeros((2, width), np.float32)
        self._at = np.zeros((2, width), np.int64)

    def add(self, codes: csr_array, tokens: "np.ndarray[Any, Any]") -> list[csr_array]:
        """Count codes [tokens, latents] of token ids [tokens]; returns the two sides, both ≥ 0."""
        sides = [csr_array(codes.maximum(0)), csr_array((-codes).maximum(0))]
        for number, side in enumerate(sides):
            side.eliminate_zeros()
            self.firings[number] += np.bincount(side.indices, minlength=side.shape[1])
            columns = side.tocsc()
            greatest = columns.max(axis=0).toarray().reshape(-1)
            better = greatest > self._greatest[number]
            self._greatest[number][better] = greatest[better]
            self._at[number][better] = tokens[columns.argmax(axis=0).reshape(-1)[better]]
        self.tokens += len(tokens)
        return sides

    def peaks(self, lm: LanguageModel) -> tuple[tuple[str | None, ...], tuple[str | None, ...]]:
        """The strongest tokens as text."""
        text = {int(token): str(lm.tokenizer.decode([int(token)])) for token in np.unique(self._at)}
        up, down = (
            tuple(text[int(token)] if value > 0 else None for token, value in zip(at, side, strict=True))
            for at, side in zip(self._at, self._greatest, strict=True)
        )
        return up, down


def _where(side: csr_array) -> csr_array:
    return csr_array((np.ones(len(side.data), np.int64), side.indices, side.indptr), side.shape)
