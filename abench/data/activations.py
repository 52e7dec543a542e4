"""From texts to shuffled batches of activations, restartable at any batch.

The stream is divided into blocks. A block is a pure function of its number and of its position in the texts:
run the model over rows of tokens until the block is full, drop special tokens and outliers, shuffle with a
generator seeded by the block's number. To restart, one block is computed again; no buffer is saved.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from abench.config import DataSpec, TrainingSpec
from abench.data.readers import ReadAhead, Reader, RowActivations, TextReader
from abench.data.token_rows import Position, TokenRows
from abench.errors import UserError
from abench.lm.models import LanguageModel

ROWS_PER_READ = 32
"""Rows of tokens that are read together; the unit of the activation cache."""
_MEASURED_ACTIVATIONS = 16_384


class ActivationSource(Protocol):
    """A source of training activations other than a language model that reads texts."""

    d_model: int

    @property
    def device(self) -> torch.device: ...

    def reader(self, seed: int, at: Position) -> Reader:
        """A reader of the training activations, in the order given by `seed`, from a position on."""
        ...


def _unwatched(_size: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _have: None)


@dataclass(frozen=True)
class InputStatistics:
    """Statistics that training measures once, on the first activations, and then keeps fixed."""

    scale: float
    """Factor that scales the mean norm of the inputs to sqrt(d_in); 1 without scaling."""
    norm_limit: float | None
    """Activations with a larger norm are dropped; None keeps all."""


class ActivationStream:
    """Shuffled batches of one site's activations, [batch, d_model] in float32 on the CPU or GPU.

    Special tokens (BOS, separators) and activations with outlying norms are dropped.
    Batch `i` is the same whether the stream ran from the beginning or was restarted.
    """

    def __init__(
        self,
        lm: LanguageModel | ActivationSource,
        site: str,
        data: DataSpec,
        training: TrainingSpec,
        *,
        context: int,
        rows_per_forward: int = ROWS_PER_READ,
        watched: Callable[[int], AbstractContextManager[Callable[[int], None]]] = _unwatched,
        row_activations: RowActivations | None = None,
    ) -> None:
        """`row_activations` gives what the model would compute from rows of tokens; None: it computes it.

        `watched(n)` is entered whenever n activations are about to be read, which can take minutes. The
        function that it gives is called with the number of those that have been read.
        """
        # Another source than a language model ignores site, data and context.
        self._lm, self._site, self._data, self._training = lm, site, data, training
        self._context, self._rows = context, rows_per_forward
        self.batches_per_block = training.buffer_tokens // training.batch_size
        self.statistics: InputStatistics | None = None
        self._watched, self._row_activations = watched, row_activations
        self._measured: Reader | None = None
        """What `measure` has read, which the first block need not read again."""
        self._block_starts: dict[int, Position] = {}

    def measure(self) -> InputStatistics:
        """Measure the statistics on the stream's first activations (at least 16,384; all if there are fewer).

        Raises UserError without text, and for activations from which nothing can be learnt.
        """
        reader = self._reader(None)
        start = reader.position
        wanted = min(_MEASURED_ACTIVATIONS, self._training.buffer_tokens)
        parts: list[tuple[Tensor, Position]] = []
        have = 0
        with self._watched(wanted) as see:
            while have < wanted and (activations := self._read(reader)) is not None:
                parts.append((activations, reader.position))
                have += len(activations)
                see(min(have, wanted))
        read = [activations for activations, _ in parts]
        found = torch.cat([torch.empty(0, self._lm.d_model, device=self._lm.device), *read])
        if len(found) < wanted:
            self._check_end(len(found), reader.position)
        if all_the_same(found):
            raise UserError(
                f"the first {len(found):,} activations are all the same: there is nothing to learn"
            )
        self.statistics = statistics_of(found, self._training)
        self._measured = ReadAhead(start, parts, reader)
        return self.statistics

    def batches(self, start: int = 0, *, block_start: Position | None = None) -> Iterator[Tensor]:
        """Batches from number `start` on, normalised according to the training spec.

        `block_start` is the value of `start_of(start)` in the stream to continue. It is required after the
        first block, where the statistics must be set as well.

        The last block may be incomplete and then has as many batches as the text yields. The first `steps`
        batches are for training. Later ones are for calibration: the rest of the text, whose last batch may
        be shorter, and then the first block again, because little or no text may be left.

        Raises UserError if the text ends before training does, and for activations from which no SAE can
        learn.
        """
        block = start // self.batches_per_block
        if block and (block_start is None or self.statistics is None):
            raise ValueError("to restart after the first block, its position and the statistics are needed")
        if self.statistics is None:
            self.measure()
        reader, self._measured = (self._measured if block == 0 else None) or self._reader(block_start), None
        self._block_starts[block] = reader.position
        for number, batch in self._numbered(reader, block):
            if number >= start:
                yield batch
        for _, batch in self._of_block(self._block(self._reader(None), 0), 0):
            yield batch

    def _numbered(self, reader: Reader, block: int) -> Iterator[tuple[int, Tensor]]:
        """All batches with their numbers, from a block to the end of the text."""
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
        """The batches of a block with their numbers; a shorter last one only after all training steps."""
        size = self._training.batch_size
        for index, begin in enumerate(range(0, len(activations), size)):
            number = block * self.batches_per_block + index
            if begin + size <= len(activations) or number >= self._training.steps:
                # A new tensor, so that a reference to a batch does not keep the block in memory.
                yield number, self.normalise(activations[begin : begin + size])

    def start_of(self, batch: int) -> Position:
        """The position in the texts at which a batch's block begins; known for the current and next block."""
        return self._block_starts[batch // self.batches_per_block]

    def normalise(self, batch: Tensor) -> Tensor:
        """Activations [tokens, d_model], normalised as in training."""
        if self.statistics is None:
            raise ValueError("call measure() before normalise()")
        return normalised(batch, self._training, self.statistics.scale)

    def _block(self, reader: Reader, block: int) -> Tensor:
        """A block's shuffled activations, [batches_per_block * batch_size, d_model]; fewer at the end."""
        size = self.batches_per_block * self._training.batch_size
        filled = torch.empty(size, self._lm.d_model, device=self._lm.device)
        have = 0
        with self._watched(size) as see:
            while have < size and (activations := self._read(reader)) is not None:
                kept = self._kept(activations)
                take = min(len(kept), size - have)
                filled[have : have + take] = kept[:take]
                have += take
                see(have)
        generator = torch.Generator().manual_seed(hash_seed(self._training.seed, block))
        return filled[torch.randperm(have, generator=generator).to(filled.device)]

    def _reader(self, at: Position | None) -> Reader:
        if not isinstance(self._lm, LanguageModel):
            return self._lm.reader(self._training.seed, at or Position())
        rows = TokenRows(self._lm, self._data, "train", self._context, seed=self._training.seed, at=at)
        return TextReader(
            self._lm,
            self._site,
            rows,
            context=self._context,
            at_once=self._rows,
            activations=self._row_activations,
        )

    def _read(self, reader: Reader) -> Tensor | None:
        activations = reader.read()
        if activations is not None:
            self._check(activations, reader.position)
        return activations

    def _check_end(self, there: int, end: Position) -> None:
        """Raise UserError if a text that ends after `there` activations is too short for training."""
        wanted = self._training.steps * self._training.batch_size
        if there and there // self._training.batch_size >= self._training.steps:
            return
        epochs = end.epoch + 1
        if there == 0:
            raise UserError(self._without_text())
        read = "" if epochs == 1 else f", read {epochs} times,"
        # The last activations read for a block may not fit into it and are lost.
        lost = self._rows * self._context * (self._training.steps // self.batches_per_block)
        times = max(epochs + 1, -(-(wanted + lost) * epochs // there))
        raise UserError(
            f"the text{read} ends after {there:,} activations, but training needs {wanted:,}, for which the "
            f"text would have to be read {times} times: add --set data.epochs={times}, lower --tokens, or "
            "provide more text"
        )

    def _without_text(self) -> str:
        kept = self._data.held_out_documents
        return (
            f"there is no text to train on: the first {kept:,} documents are held out for evaluation "
            "(data.held_out_documents); provide more text or hold out fewer"
        )

    def _check(self, activations: Tensor, end: Position) -> None:
        """Raise UserError, with the position, for activations on which no SAE can be trained."""
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
    """Whether two or more activations [tokens, d_in] are all equal, but not zero."""
    same = bool((activations == activations[0]).all())
    return len(activations) > 1 and same and bool(activations[0].any())


def statistics_of(activations: Tensor, training: TrainingSpec) -> InputStatistics:
    """The statistics of activations [tokens, d_in]; raises UserError if nothing can be learnt from them."""
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
            f"each of {first} has the same value in all of its {activations.shape[1]} dimensions: "
            "the normalisation layer_norm leaves nothing to learn from"
        )
    if limit == 0:
        raise UserError(
            f"more than half of {first} are zero, so all others count as outliers; remove the zeros, "
            "or set outlier_norm to null"
        )
    usual = norms if limit is None else norms[norms <= limit]
    scale = activations.shape[1] ** 0.5 / float(usual.mean()) if training.normalisation == "scale" else 1.0
    return InputStatistics(scale=scale, norm_limit=limit)


def _way_out(source: LanguageModel | ActivationSource) -> str:
    """Advice on activations that are not finite."""
    if not isinstance(source, LanguageModel):
        return "check their source"
    dtype = str(source.model.dtype).removeprefix("torch.")
    if dtype == "float16":
        return "float16 overflows above 65,504: add --set dtype=bfloat16"
    return f"in {dtype}, intact weights do not overflow: download the weights again"


def normalised(batch: Tensor, training: TrainingSpec, scale: float) -> Tensor:
    """Activations [tokens, d_in], normalised as the training spec states; `scale` applies to all tokens."""
    if training.normalisation == "layer_norm":
        # As sae-lens at inference with `normalize_activations: layer_norm`.
        centred = batch - batch.mean(-1, keepdim=True)
        return centred / (centred.std(-1, keepdim=True) + 1e-5)
    return batch * scale


def hash_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, without the collisions of a plain sum."""
    seed = 0
    for part in parts:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % (1 << 63)
    return seed
