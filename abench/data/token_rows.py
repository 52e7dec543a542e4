"""From texts to rows of tokens that all have the length of the context, restartable at any row."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from abench.config import DataSpec
from abench.data.texts import TextPart, texts
from abench.lm.models import LanguageModel

_TEXTS_AT_ONCE = 512


class Position(NamedTuple):
    """A position in a stream of texts: a document, how many of its tokens are used, and the epoch."""

    document: int = 0
    offset: int = 0
    epoch: int = 0
    """How many times all documents have been read already."""


class TokenRows:
    """Rows of `context` tokens, packed from documents with separators between them; restartable.

    A row begins with BOS if the tokenizer has one, as models expect. A document that does not fit continues
    in the next row. Training documents are read `data.epochs` times, held-out documents once.
    """

    def __init__(
        self,
        lm: LanguageModel,
        data: DataSpec,
        part: TextPart,
        context: int,
        *,
        seed: int = 0,
        at: Position | None = None,
    ) -> None:
        self._lm, self._data, self._part, self._context, self._seed = lm, data, part, context, seed
        self.position = at or Position()
        self._epochs = data.epochs if part == "train" else 1
        self._documents = self._tokenised(self.position)
        self._current: list[int] = []

    def batch(self, rows: int) -> Tensor:
        """The next `rows` rows, [rows, context] (int64); fewer, or none, when the texts end."""
        collected: list[list[int]] = []
        while len(collected) < rows:
            row = self._row()
            if row is None:
                break
            collected.append(row)
        return torch.tensor(collected, dtype=torch.int64).reshape(len(collected), self._context)

    def _row(self) -> list[int] | None:
        row = [] if self._lm.bos_id is None else [self._lm.bos_id]
        while len(row) < self._context:
            if not self._current:
                following = next(self._documents, None)
                if following is None:
                    return None
                self.position, self._current = following
                if len(row) == 1 and self._at_document_start and self._current[:1] == row:
                    self._advance(1)  # the row's BOS serves this document, too
                continue
            take = self._context - len(row)
            row += self._current[:take]
            self._advance(take)
        return row

    @property
    def _at_document_start(self) -> bool:
        return self.position.offset == 0 and self._lm.bos_id is not None

    def _advance(self, take: int) -> None:
        rest = self._current[take:]
        document, offset, epoch = self.position
        self.position = Position(document, offset + take, epoch) if rest else Position(document + 1, 0, epoch)
        self._current = rest

    def _tokenised(self, start: Position) -> Iterator[tuple[Position, list[int]]]:
        """The position and token ids (with separators) of each document, the first from `start.offset` on."""
        for epoch in range(start.epoch, self._epochs):
            document = start.document if epoch == start.epoch else 0
            for ids in self._ids(document, epoch):
                at = Position(document, 0, epoch)
                begin = start if at == start._replace(offset=0) else at
                yield begin, ids[begin.offset :]
                document += 1
            if document == 0:
                return  # without documents, further epochs have none either

    def _ids(self, start: int, epoch: int) -> Iterator[list[int]]:
        """The token ids of one epoch's documents, with separators, from document `start` on."""
        stream = texts(self._data, self._part, start=start, seed=self._seed, epoch=epoch)
        while chunk := list(islice(stream, _TEXTS_AT_ONCE)):
            for ids in self._lm.token_ids(chunk):
                yield self._lm.packed(ids)
