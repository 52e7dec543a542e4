"""Streams of texts, from the tiny world, from files or from the hub, restartable at any document."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from abench import hub
from abench.config import DataSpec
from abench.errors import UserError
from abench.loading import load_file, load_hub_split

Part = Literal["train", "held_out"]


def texts(spec: DataSpec, part: Part, *, start: int = 0, seed: int = 0) -> Iterator[str]:
    """Texts of the part from document `start` on. Finite, except for the tiny world.

    The parts are disjoint: the tiny world has splits of its own, other sources keep their first
    `held_out_documents` from training. `seed` orders the tiny world's texts; others keep their order.
    """
    if spec.source == "tinyworld":
        from abench.tinyworld import World

        return World().texts("train" if part == "train" else "test", start=start, seed=seed)
    return _nonempty(_unbroken(_rows(spec, part, start), spec), spec)


def _rows(spec: DataSpec, part: Part, start: int) -> Iterator[dict[str, Any]]:
    stream = _open(spec)
    if part == "held_out":
        return islice(stream.skip(start), max(0, spec.held_out_documents - start))
    return iter(stream.skip(spec.held_out_documents + start))


def _open(spec: DataSpec) -> Any:
    if spec.dataset is None:
        raise UserError(f"data.dataset is needed for data.source {spec.source}")
    if spec.source == "file":
        return load_file(Path(spec.dataset), spec.split, streaming=True)
    try:
        return load_hub_split(spec.dataset, spec.split, spec.config, spec.revision, streaming=True)
    except UserError as error:
        if hub.offline_reason() is None:
            raise
        raise UserError(
            f"{error}. Run where the hub can be reached, or give local text: --set data.source=file "
            "--set data.dataset=PATH"
        ) from error


def _unbroken(rows: Iterator[dict[str, Any]], spec: DataSpec) -> Iterator[dict[str, Any]]:
    """The rows, with a sentence where a connection breaks for good or a file turns out to be damaged."""
    try:
        yield from rows
    except Exception as error:
        again = " The same command goes on where this one stopped." if spec.source == "hub" else ""
        raise UserError(f"reading {spec.dataset} failed: {hub.cause_of(error)}.{again}") from error


def _nonempty(rows: Iterator[dict[str, Any]], spec: DataSpec) -> Iterator[str]:
    for row in rows:
        if spec.column not in row:
            raise UserError(f"{spec.dataset} has no column '{spec.column}'; it has {', '.join(sorted(row))}")
        # An empty text still counts as a document, so that positions in the stream stay meaningful.
        yield row[spec.column] or ""
