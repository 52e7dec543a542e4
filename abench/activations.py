"""From texts to shuffled batches of activations, restartable at any batch.

The stream is cut into blocks. A block is a pure function of where it starts in the texts and of its number:
run the model over rows of tokens until the block is full, leave out what is not to be learnt, shuffle with a
generator seeded by the block's number. To restart, one block is made again; no buffer needs saving.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from abench.config import DataSpec, TrainingSpec
from abench.data import Part, texts
from abench.errors import UserError
from abench.models import LanguageModel

_TEXTS_AT_ONCE = 512
_CPU_TOKENS_AT_ONCE = 1024
"""On a CPU, forwards whose tensors stay in its caches are a third faster than large ones."""
_MEASURED_ACTIVATIONS = 16_384


class Position(NamedTuple):
    """A place in a stream of texts: a document, the tokens of it that are already used, and the epoch."""

    document: int = 0
    offset: int = 0
    epoch: int = 0
    """How many times all documents have been read before."""


class TokenRows:
    """Rows of `context` tokens, packed from documents with separators between them; restartable.

    A row begins with BOS if the tokenizer has one (models expect it there), and a document that does not
    fit goes on in the next row. Training documents are read `data.epochs` times, held-out ones once.
    """

    def __init__(
        self,
        lm: LanguageModel,
        data: DataSpec,
        part: Part,
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
        """The next `rows` rows, [rows, context] (int64); fewer, down to none, where the texts end."""
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
                    self._advance(1)  # the row's own BOS already begins this document
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
        """Where documents begin, and their token ids with separators; the first from `start.offset` on."""
        for epoch in range(start.epoch, self._epochs):
            document = start.document if epoch == start.epoch else 0
            for ids in self._ids(document, epoch):
                at = Position(document, 0, epoch)
                begin = start if at == start._replace(offset=0) else at
                yield begin, ids[begin.offset :]
                document += 1
            if document == 0:
                return  # no text, however often it is read

    def _ids(self, start: int, epoch: int) -> Iterator[list[int]]:
        """Token ids of one epoch's documents, with their separators, from document `start` on."""
        stream = texts(self._data, self._part, start=start, seed=self._seed, epoch=epoch)
        while chunk := list(islice(stream, _TEXTS_AT_ONCE)):
            for ids in self._lm.token_ids(chunk):
                yield self._lm.packed(ids)


class Reader(Protocol):
    """Goes through activations in their order, once."""

    @property
    def position(self) -> Position:
        """Where the next activations begin; reading can start again from there."""
        ...

    def read(self) -> Tensor | None:
        """The next activations, [some, d_model] in float32; None at the end."""
        ...


class ActivationSource(Protocol):
    """What SAEs can be trained on in place of a language model that reads texts."""

    d_model: int

    @property
    def device(self) -> torch.device: ...

    def reader(self, seed: int, at: Position) -> Reader:
        """Reads the source's training activations, ordered by `seed`, from a position on."""
        ...


class TextReader:
    """Activations of one site of a language model that reads texts, special tokens left out."""

    def __init__(self, lm: LanguageModel, site: str, rows: TokenRows, *, context: int, at_once: int) -> None:
        self._lm, self._site, self._rows = lm, site, rows
        self._context, self._at_once = context, at_once

    @property
    def position(self) -> Position:
        return self._rows.position

    def read(self) -> Tensor | None:
        tokens = self._rows.batch(self._at_once)
        if len(tokens) == 0:
            return None
        on_cpu = self._lm.device.type == "cpu"
        size = -(-_CPU_TOKENS_AT_ONCE // self._context) if on_cpu else self._at_once
        parts = [self._lm.residual(part, self._site).float() for part in torch.split(tokens, size)]
        return torch.cat(parts)[ordinary(tokens, self._lm).to(self._lm.device)]


@dataclass(frozen=True)
class InputStatistics:
    """What training measures once, on the first activations, and then holds fixed."""

    scale: float
    """Factor that brings the mean norm of the inputs to sqrt(d_in); 1 without scaling."""
    norm_limit: float | None
    """Activations with a larger norm are left out; None keeps all."""


class ActivationStream:
    """Shuffled batches of one site's activations, [batch, d_model] in float32 on the CPU or GPU.

    Special tokens (BOS, separators) are left out, and so are activations of outlying norm.
    Batch `i` is the same whether the stream was run from its beginning or restarted.
    """

    def __init__(
        self,
        lm: LanguageModel | ActivationSource,
        site: str,
        data: DataSpec,
        training: TrainingSpec,
        *,
        context: int,
        rows_per_forward: int = 32,
    ) -> None:
        # A source that is no language model reads no texts: site, data and context mean nothing to it.
        self._lm, self._site, self._data, self._training = lm, site, data, training
        self._context, self._rows = context, rows_per_forward
        self.batches_per_block = training.buffer_tokens // training.batch_size
        self.statistics: InputStatistics | None = None
        self._block_starts: dict[int, Position] = {}

    def measure(self) -> InputStatistics:
        """Measure the statistics on the stream's first activations (16,384 or little more; all if fewer).

        Raises UserError where there is no text, and for activations that nothing can be learnt from.
        """
        reader = self._reader(None)
        wanted = min(_MEASURED_ACTIVATIONS, self._training.buffer_tokens)
        parts: list[Tensor] = []
        while sum(map(len, parts)) < wanted and (activations := self._read(reader)) is not None:
            parts.append(activations)
        found = torch.cat([torch.empty(0, self._lm.d_model, device=self._lm.device), *parts])
        if len(found) < wanted:
            self._check_end(len(found), reader.position)
        if all_the_same(found):
            raise UserError(
                f"the first {len(found):,} activations are all the same: there is nothing to learn"
            )
        self.statistics = statistics_of(found, self._training)
        return self.statistics

    def batches(self, start: int = 0, *, block_start: Position | None = None) -> Iterator[Tensor]:
        """Batches from number `start` on, normalised as the training spec says.

        `block_start` is what `start_of(start)` gave in the stream to be continued; it is needed after the
        first block, and then the statistics must be set as well.

        Text need not fill the last block, which then has as many batches as there is text for. The training's
        own `steps` batches come first. Those after them are for calibration: what is left of the text, with a
        shorter batch at its end, and then the first block again, since little or nothing may be left.

        Raises UserError where the text ends before the training does, and for activations that no SAE can
        learn from.
        """
        block = start // self.batches_per_block
        if block and (block_start is None or self.statistics is None):
            raise ValueError("to restart after the first block, its position and the statistics are needed")
        if self.statistics is None:
            self.measure()
        reader = self._reader(block_start)
        self._block_starts[block] = reader.position
        for number, batch in self._numbered(reader, block):
            if number >= start:
                yield batch
        for _, batch in self._of_block(self._block(self._reader(None), 0), 0):
            yield batch

    def _numbered(self, reader: Reader, block: int) -> Iterator[tuple[int, Tensor]]:
        """All batches from a block on, with their numbers, to the end of the text."""
        whole = self.batches_per_block * self._training.batch_size
        size = whole
        while size == whole:
            activations = self._block(reader, block)
            size = len(activations)
            if size < whole:
                self._check_end(block * whole + size, reader.position)
            self._block_starts = {block: self._block_starts[block], block + 1: reader.position}
            yield from self._of_block(activations, block)
            del activations
            block += 1

    def _of_block(self, activations: Tensor, block: int) -> Iterator[tuple[int, Tensor]]:
        """The batches of a block with their numbers; a shorter one only where no step is to be trained on."""
        size = self._training.batch_size
        for index, begin in enumerate(range(0, len(activations), size)):
            number = block * self.batches_per_block + index
            if begin + size <= len(activations) or number >= self._training.steps:
                # A new tensor, so that who holds a batch does not hold the block.
                yield number, self.normalise(activations[begin : begin + size])

    def start_of(self, batch: int) -> Position:
        """Where in the texts a batch's block begins; known for the current block and the next."""
        return self._block_starts[batch // self.batches_per_block]

    def normalise(self, batch: Tensor) -> Tensor:
        """Activations [tokens, d_model] as the SAEs see them in training."""
        if self.statistics is None:
            raise ValueError("call measure() before normalise()")
        return normalised(batch, self._training, self.statistics.scale)

    def _block(self, reader: Reader, block: int) -> Tensor:
        """A block's activations, shuffled, [batches_per_block * batch_size, d_model]; fewer at the end."""
        size = self.batches_per_block * self._training.batch_size
        filled = torch.empty(size, self._lm.d_model, device=self._lm.device)
        have = 0
        while have < size and (activations := self._read(reader)) is not None:
            kept = self._kept(activations)
            take = min(len(kept), size - have)
            filled[have : have + take] = kept[:take]
            have += take
        generator = torch.Generator().manual_seed(hash_seed(self._training.seed, block))
        return filled[torch.randperm(have, generator=generator).to(filled.device)]

    def _reader(self, at: Position | None) -> Reader:
        if not isinstance(self._lm, LanguageModel):
            return self._lm.reader(self._training.seed, at or Position())
        rows = TokenRows(self._lm, self._data, "train", self._context, seed=self._training.seed, at=at)
        return TextReader(self._lm, self._site, rows, context=self._context, at_once=self._rows)

    def _read(self, reader: Reader) -> Tensor | None:
        activations = reader.read()
        if activations is not None:
            self._check(activations, reader.position)
        return activations

    def _check_end(self, there: int, end: Position) -> None:
        """Raise UserError if the text, which ends after `there` activations, is too short for training."""
        wanted = self._training.steps * self._training.batch_size
        if there and there // self._training.batch_size >= self._training.steps:
            return
        epochs = end.epoch + 1
        if there == 0:
            raise UserError(self._without_text())
        read = "" if epochs == 1 else f", read {epochs} times,"
        # The last activations that are read for a block may not fit into it.
        lost = self._rows * self._context * (self._training.steps // self.batches_per_block)
        times = max(epochs + 1, -(-(wanted + lost) * epochs // there))
        raise UserError(
            f"the text{read} ends after {there:,} activations; training asks for {wanted:,}, for which it "
            f"would have to be read {times} times: --set data.epochs={times}, or lower --tokens, or "
            "give more text"
        )

    def _without_text(self) -> str:
        kept = self._data.held_out_documents
        return (
            f"there is no text to train on: the first {kept:,} documents are kept for evaluation "
            "(data.held_out_documents); give more text or keep fewer"
        )

    def _check(self, activations: Tensor, end: Position) -> None:
        """Raise UserError, naming the place, for activations no SAE can be trained on."""
        place = f"at {self._site}, before document {end.document} of the training texts,"
        if activations.ndim != 2 or activations.shape[1] != self._lm.d_model:
            shape = list(activations.shape)
            raise UserError(f"activations {place} have shape {shape}, not [tokens, {self._lm.d_model}]")
        if not bool(activations.isfinite().all()):
            raise UserError(f"activations {place} are not finite; {_way_out(self._lm)}")

    def _kept(self, activations: Tensor) -> Tensor:
        if self.statistics is None or self.statistics.norm_limit is None:
            return activations
        return activations[activations.norm(dim=-1) <= self.statistics.norm_limit]


def all_the_same(activations: Tensor) -> bool:
    """Whether several activations [tokens, d_in] are one and the same, though not zero."""
    same = bool((activations == activations[0]).all())
    return len(activations) > 1 and same and bool(activations[0].any())


def statistics_of(activations: Tensor, training: TrainingSpec) -> InputStatistics:
    """The statistics of activations [tokens, d_in]; UserError where nothing can be learnt from them."""
    norms = activations.norm(dim=-1)
    median = float(norms.median())
    limit = None if training.outlier_norm is None else median * training.outlier_norm
    first = f"the first {len(activations):,} activations"
    if not bool(norms.isfinite().all()):
        raise UserError(f"{first} are so large that their norms overflow float32; divide them by a factor")
    if not bool(norms.any()):
        raise UserError(f"{first} are zero everywhere: there is nothing to learn from")
    if training.normalisation == "layer_norm" and bool((activations == activations[:, :1]).all()):
        raise UserError(
            f"each of {first} has the same value in all its dimensions ({activations.shape[1]}): the "
            "normalisation layer_norm leaves nothing of it to learn from"
        )
    if limit == 0:
        raise UserError(
            f"of {first} more than half are zero, so that all others count as outliers; leave the zeros out, "
            "or set outlier_norm to null"
        )
    usual = norms if limit is None else norms[norms <= limit]
    scale = activations.shape[1] ** 0.5 / float(usual.mean()) if training.normalisation == "scale" else 1.0
    return InputStatistics(scale=scale, norm_limit=limit)


def _way_out(source: LanguageModel | ActivationSource) -> str:
    """What to do about activations that are not finite."""
    if not isinstance(source, LanguageModel):
        return "look at the source that gives them"
    dtype = str(source.model.dtype).removeprefix("torch.")
    if dtype == "float16":
        return "float16 overflows above 65,504: bfloat16 does not, --set dtype=bfloat16"
    return f"in {dtype} numbers of a sound model do not overflow: fetch its weights again"


def normalised(batch: Tensor, training: TrainingSpec, scale: float) -> Tensor:
    """Activations [tokens, d_in] as the training spec normalises them; `scale` is one factor for all."""
    if training.normalisation == "layer_norm":
        # What sae-lens does at inference under `normalize_activations: layer_norm`.
        centred = batch - batch.mean(-1, keepdim=True)
        return centred / (centred.std(-1, keepdim=True) + 1e-5)
    return batch * scale


def ordinary(tokens: Tensor, lm: LanguageModel) -> Tensor:
    """Where tokens [batch, sequence] are text: True except at BOS, EOS and separators."""
    mask = torch.ones_like(tokens, dtype=torch.bool)
    for token in sorted(lm.special_ids):
        mask &= tokens != token
    return mask


def hash_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, without the collisions of adding them."""
    seed = 0
    for part in parts:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % (1 << 63)
    return seed
