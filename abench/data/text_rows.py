"""Rows of tokens from a list of texts, packed as in training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from abench.config import DataSpec
from abench.data.token_rows import TokenRows
from abench.errors import UserError
from abench.lm.models import LanguageModel, model_of
from abench.lm.tokens import ordinary, tokens_at_once

_TEXTS_AT_ONCE = 512
_ROWS_AT_ONCE = 1024
_USUAL_CONTEXT = 128


def text_rows(lm: LanguageModel, texts: Sequence[str], context: int) -> Tensor:
    """Rows [rows, context] (int64) with all tokens of the texts, packed as in training.

    Texts have separators between them, every row begins with BOS if the tokenizer has one, and a text that
    does not fit continues in the next row. The last row is filled up with a special token, which counts as
    little as the separators do. Raises UserError for a single string, and if no text has tokens.
    """
    if isinstance(texts, str):
        raise UserError("texts must be a list of texts, not a single string: give [text]")
    packed = _PackedTexts(lm, texts, context)
    rows = torch.cat(list(packed.batches()))
    rows = rows[ordinary(rows, lm).any(1)]
    if not len(rows):
        raise UserError(f"none of the {len(texts)} texts has tokens: give texts to read")
    return rows


@torch.no_grad()
def activations_of(
    lm: LanguageModel | str | Path, texts: Sequence[str], site: str, *, context: int = _USUAL_CONTEXT
) -> Tensor:
    """The activations at a site of all tokens of the texts, [tokens, d_model], float32, on the CPU, in order.

    Texts are read as in training (`text_rows`), without special tokens. `lm` may also be what
    `LanguageModel.load` accepts. To train on them, shuffle them first. Raises UserError as `text_rows` does,
    and for a site that the model lacks.
    """
    lm = model_of(lm)
    rows = text_rows(lm, texts, min(context, lm.max_context or context))
    parts = []
    for part in torch.split(rows, max(1, tokens_at_once(lm) // rows.shape[1])):
        mask = ordinary(part, lm).to(lm.device)
        parts.append(lm.residual(part, site)[mask].float().cpu())
    return torch.cat(parts).clone()


class _PackedTexts(TokenRows):
    """The rows of given texts instead of those of a data source."""

    def __init__(self, lm: LanguageModel, texts: Sequence[str], context: int) -> None:
        super().__init__(lm, DataSpec(), "held_out", context)
        self._texts = texts

    def batches(self) -> Iterator[Tensor]:
        yield (part := self.batch(_ROWS_AT_ONCE))
        while len(part) == _ROWS_AT_ONCE:
            yield (part := self.batch(_ROWS_AT_ONCE))

    def _ids(self, start: int, epoch: int) -> Iterator[list[int]]:
        """The token ids of the texts with separators, and then enough of a special token for a whole row."""
        del start, epoch  # a list of texts is read once, from its beginning
        for first in range(0, len(self._texts), _TEXTS_AT_ONCE):
            for ids in self._lm.token_ids(list(self._texts[first : first + _TEXTS_AT_ONCE])):
                yield self._lm.packed(ids)
        yield [min(self._lm.special_ids)] * self._context
