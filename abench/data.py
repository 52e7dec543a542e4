"""Streams of texts, from the tiny world, from files or from the hub, restartable at any document."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from abench import hub
from abench.config import DataSpec
from abench.errors import UserError

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}

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
        return _open_file(Path(spec.dataset), spec.split)
    reason = hub.offline_reason()
    if reason is not None:
        raise UserError(
            f"the data set {spec.dataset} cannot be streamed: {reason}. Run where the hub can be reached, "
            "or give local text: --set data.source=file --set data.dataset=PATH"
        )
    from datasets import load_dataset

    try:
        return load_dataset(
            spec.dataset, spec.config, split=spec.split, revision=spec.revision, streaming=True
        )
    except Exception as error:
        # The hub's client raises a dozen unrelated types here; each message names the cause.
        raise UserError(f"the data set {spec.dataset} cannot be opened: {hub.cause_of(error)}") from error


def _open_file(path: Path, split: str) -> Any:
    builder = _BUILDERS.get(path.suffix)
    if builder is None:
        raise UserError(f"{path}: abench reads {', '.join(sorted(_BUILDERS))} files")
    if not path.is_file():
        raise UserError(f"the data file {path} does not exist")
    from datasets import load_dataset

    return load_dataset(builder, data_files={split: str(path)}, split=split, streaming=True)


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
