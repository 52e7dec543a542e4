"""From texts to shuffled batches of activations, restartable at any batch.

The stream is cut into blocks. A block is a pure function of where it starts in the texts and of its number:
run the model over rows of tokens until the block is full, leave out what is not to be learnt, shuffle with a
generator seeded by the block's number. To restart, one block is made again; no buffer needs saving.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
    """A place in a stream of texts: a document, and the tokens of it that are already used."""

    document: int = 0
    offset: int = 0


class TokenRows:
    """Rows of `context` tokens, packed from documents with separators between them; restartable.

    A row begins with BOS if the tokenizer has one (models expect it there), and a document that does not
    fit goes on in the next row.
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
                self._current = following
                if len(row) == 1 and self._at_document_start and row[0] == following[0]:
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
        document, offset = self.position
        self.position = Position(document, offset + take) if rest else Position(document + 1, 0)
        self._current = rest

    def _tokenised(self, start: Position) -> Iterator[list[int]]:
        """Token ids of documents with their separators; the first one from `start.offset` on."""
        stream = texts(self._data, self._part, start=start.document, seed=self._seed)
        skip = start.offset
        while True:
            chunk = [text for _, text in zip(range(_TEXTS_AT_ONCE), stream, strict=False)]
            if not chunk:
                return
            for ids in self._lm.token_ids(chunk):
                yield self._lm.packed(ids)[skip:]
                skip = 0


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
        """Measure the statistics on the stream's first activations (16,384 at most)."""
        reader = self._reader(None)
        wanted = min(_MEASURED_ACTIVATIONS, self._training.buffer_tokens)
        parts: list[Tensor] = []
        while sum(map(len, parts)) < wanted:
            parts.append(self._read(reader, sum(map(len, parts))))
        self.statistics = self._statistics_of(torch.cat(parts))
        return self.statistics

    def batches(self, start: int = 0, *, block_start: Position | None = None) -> Iterator[Tensor]:
        """Batches from number `start` on, normalised as the training spec says.

        `block_start` is what `start_of(start)` gave in the stream to be continued; it is needed behind the
        first block, and then the statistics have to be set as well. Raises UserError when the texts end.
        """
        block = start // self.batches_per_block
        if block and (block_start is None or self.statistics is None):
            raise ValueError("to restart behind the first block, its position and the statistics are needed")
        if self.statistics is None:
            self.measure()
        reader = self._reader(block_start)
        size = self._training.batch_size
        self._block_starts[block] = reader.position
        while True:
            activations = self._block(reader, block)
            self._block_starts = {block: self._block_starts[block], block + 1: reader.position}
            for index in range(start - block * self.batches_per_block, self.batches_per_block):
                yield self.normalise(activations[index * size : (index + 1) * size])
            del activations
            block += 1
            start = block * self.batches_per_block

    def start_of(self, batch: int) -> Position:
        """Where in the texts a batch's block begins; known for the current block and the next."""
        return self._block_starts[batch // self.batches_per_block]

    def normalise(self, batch: Tensor) -> Tensor:
        """Activations [tokens, d_model] as the SAEs see them in training."""
        if self.statistics is None:
            raise ValueError("call measure() before normalise()")
        return normalised(batch, self._training, self.statistics.scale)

    def _block(self, reader: Reader, block: int) -> Tensor:
        """The activations of a block, shuffled, [batches_per_block * batch_size, d_model]."""
        size = self.batches_per_block * self._training.batch_size
        filled = torch.empty(size, self._lm.d_model, device=self._lm.device)
        have = 0
        while have < size:
            kept = self._kept(self._read(reader, have + block * size))
            take = min(len(kept), size - have)
            filled[have : have + take] = kept[:take]
            have += take
        generator = torch.Generator().manual_seed(hash_seed(self._training.seed, block))
        return filled[torch.randperm(size, generator=generator).to(filled.device)]

    def _reader(self, at: Position | None) -> Reader:
        if not isinstance(self._lm, LanguageModel):
            return self._lm.reader(self._training.seed, at or Position())
        rows = TokenRows(self._lm, self._data, "train", self._context, seed=self._training.seed, at=at)
        return TextReader(self._lm, self._site, rows, context=self._context, at_once=self._rows)

    def _read(self, reader: Reader, have: int) -> Tensor:
        activations = reader.read()
        if activations is None:
            raise UserError(
                f"the text ends after {have:,} activations; training asks for "
                f"{self._training.tokens:,}: lower --tokens or give more text"
            )
        self._check(activations, reader.position)
        return activations

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

    def _statistics_of(self, activations: Tensor) -> InputStatistics:
        norms = activations.norm(dim=-1)
        median = float(norms.median())
        limit = None if self._training.outlier_norm is None else median * self._training.outlier_norm
        usual = norms if limit is None else norms[norms <= limit]
        scaled = self._training.normalisation == "scale"
        scale = self._lm.d_model**0.5 / float(usual.mean()) if scaled else 1.0
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
