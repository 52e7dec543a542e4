"""Streams of texts, from the tiny world, from files or from the hub, restartable at any document."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal

from abench import hub
from abench.config import DataSpec
from abench.errors import UserError
from abench.loading import load_hub_split
from abench.rows import Row, read_file, text_in

Part = Literal["train", "held_out"]

_SHUFFLED_DOCUMENTS = 1024
"""Documents that are put into another order together when they are read again; bounds the memory."""


def texts(spec: DataSpec, part: Part, *, start: int = 0, seed: int = 0, epoch: int = 0) -> Iterator[str]:
    """Texts of the part from document `start` on. Finite, except for the tiny world.

    The parts are disjoint: the tiny world has splits of its own, other sources keep their first
    `held_out_documents` from training. `seed` orders the tiny world's texts; others keep their order in
    epoch 0. In every later epoch each window of 1,024 documents has an order of its own, which depends on
    `seed`, the epoch and the window alone, so that reading can start anywhere in it.
    """
    if epoch == 0 or spec.source == "tinyworld":
        return _in_order(spec, part, start, seed)
    return _shuffled(spec, part, start, (seed, epoch))


def _shuffled(spec: DataSpec, part: Part, start: int, order: tuple[int, int]) -> Iterator[str]:
    window, skip = divmod(start, _SHUFFLED_DOCUMENTS)
    stream = _in_order(spec, part, window * _SHUFFLED_DOCUMENTS, order[0])
    while documents := list(islice(stream, _SHUFFLED_DOCUMENTS)):
        # A text seed is hashed whole, so that no two windows share their order.
        Random(f"{order} {window}").shuffle(documents)
        yield from documents[skip:]
        window, skip = window + 1, 0


def _in_order(spec: DataSpec, part: Part, start: int, seed: int) -> Iterator[str]:
    if spec.source == "tinyworld":
        from abench.tinyworld import World

        return World().texts("train" if part == "train" else "test", start=start, seed=seed)
    skipped = start if part == "held_out" else spec.held_out_documents + start
    rows = _rows(spec, skipped)
    if part == "held_out":
        rows = islice(rows, max(0, spec.held_out_documents - start))
    # An empty text still counts as a document, so that positions in the stream stay meaningful.
    return (
        text_in(row, spec.column, where=str(spec.dataset), number=number)
        for number, row in enumerate(rows, skipped + 1)
    )


def _rows(spec: DataSpec, start: int) -> Iterator[Row]:
    """The rows of a file or a hub split from row `start` on."""
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
            f"{error}. Run where the hub can be reached, or give local text: --set data.source=file "
            "--set data.dataset=PATH"
        ) from error
    return _unbroken(split.skip(start), spec)


def _unbroken(rows: Iterable[Row], spec: DataSpec) -> Iterator[Row]:
    """The rows, with a sentence where a connection breaks for good."""
    try:
        yield from rows
    except Exception as error:
        raise UserError(
            f"reading {spec.dataset} failed: {hub.cause_of(error)}. "
            "The same command goes on where this one stopped."
        ) from error
