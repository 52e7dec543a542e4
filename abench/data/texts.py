"""Streams of texts from the tiny world, files, the hub or manuals, restartable at any document."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

from abench.config import DataSpec
from abench.data import manuals
from abench.data.loading import load_hub_split
from abench.data.rows import Row, read_file, text_in
from abench.errors import UserError
from abench.lm import hub

TextPart = Literal["train", "held_out"]

_SHUFFLED_DOCUMENTS = 1024
"""Documents that are shuffled together in later epochs; bounds the memory."""


def texts(spec: DataSpec, part: TextPart, *, start: int = 0, seed: int = 0, epoch: int = 0) -> Iterator[str]:
    """The texts of a part from document `start` on. Finite, except for the tiny world.

    The parts are disjoint: the tiny world has its own splits; other sources exclude their first
    `held_out_documents` from training. `seed` orders the tiny world's texts; other sources keep their order
    in epoch 0. In later epochs each window of 1,024 documents is shuffled; the order depends only on `seed`,
    the epoch and the window, so reading can start anywhere.
    """
    if epoch == 0 or spec.source == "tinyworld":
        return _in_order(spec, part, start, seed)
    return _shuffled(spec, part, start, (seed, epoch))


def _shuffled(spec: DataSpec, part: TextPart, start: int, order: tuple[int, int]) -> Iterator[str]:
    window, skip = divmod(start, _SHUFFLED_DOCUMENTS)
    stream = _in_order(spec, part, window * _SHUFFLED_DOCUMENTS, order[0])
    while documents := list(islice(stream, _SHUFFLED_DOCUMENTS)):
        # A seed that is text is hashed whole, so no two windows share their order.
        Random(f"{order} {window}").shuffle(documents)
        yield from documents[skip:]
        window, skip = window + 1, 0


def _in_order(spec: DataSpec, part: TextPart, start: int, seed: int) -> Iterator[str]:
    if spec.source == "tinyworld":
        from abench.tinyworld import World

        return World().texts("train" if part == "train" else "test", start=start, seed=seed)
    skipped = start if part == "held_out" else spec.held_out_documents + start
    rows = _rows(spec, skipped)
    if part == "held_out":
        rows = islice(rows, max(0, spec.held_out_documents - start))
    # An empty text still counts as a document, so that positions in the stream stay meaningful.
    return (
        text_in(row, spec.column, where=spec.dataset or spec.source, number=number)
        for number, row in enumerate(rows, skipped + 1)
    )


def _rows(spec: DataSpec, start: int) -> Iterator[Row]:
    """The rows of the manuals, a file or a hub split from row `start` on."""
    if spec.source == "manuals":
        return ({"text": text} for text in manuals.documents(start))
    if spec.dataset is None:
        raise UserError(f"data.dataset is needed for data.source {spec.source}")
    if spec.source == "file":
        return read_file(Path(spec.dataset), start=start)
    try:
        split = load_hub_split(spec.dataset, spec.split, spec.config, spec.revision, streaming=True)
    except UserError as error:
        if hub.offline_reason() is None:
            raise
        raise UserError(
            f"{error}. Run where the hub can be reached, or use local text: --set data.source=file "
            "--set data.dataset=PATH"
        ) from error
    return _unbroken(split.skip(start), spec)


def _unbroken(rows: Iterable[Row], spec: DataSpec) -> Iterator[Row]:
    """The rows; raises UserError if the connection breaks for good."""
    try:
        yield from rows
    except Exception as error:
        raise UserError(
            f"reading {spec.dataset} failed: {hub.cause_of(error)}. Run the same command again to resume."
        ) from error
