"""Tasks' details for their own tables and figures; unreadable details affect only these."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from abench.report.attempts import attempt
from abench.report.autointerp import autointerp_notes
from abench.report.bidirectionality import bidirectionality_table
from abench.report.drawings import Drawings
from abench.report.frame import Record
from abench.report.plane import plane_arrows
from abench.report.pole_bars import pole_parts
from abench.report.replies import steered_replies
from abench.report.safety import safety_table
from abench.report.shading import examples
from abench.report.style import NO_STYLES, Styles
from abench.report.tradeoff import tradeoff_points
from abench.report.two_way import two_way_table

_READERS: Mapping[str, Sequence[Callable[[Sequence[Record]], object]]] = {
    "autointerp": (autointerp_notes,),
    "plane": (plane_arrows,),
    "poles": (
        partial(bidirectionality_table, styles=NO_STYLES),
        pole_parts,
        partial(examples, styles=NO_STYLES),
    ),
    "steering": (
        partial(safety_table, styles=NO_STYLES),
        tradeoff_points,
        partial(steered_replies, styles=NO_STYLES),
    ),
    "two_way": (partial(two_way_table, styles=NO_STYLES),),
}
"""Name of details -> all functions that read them."""


def readable(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The records without unreadable details, and one sentence per task and name of such details."""
    kept, sentences = [], {}
    for record in records:
        details = record.get("details") or {}
        bad = {name: error for name in _READERS if name in details and (error := _error(name, record))}
        for name, error in bad.items():
            task = record["labels"]["task"]
            sentences[task, name] = (
                f"Details '{name}' of task {task} cannot be read and are omitted: {error}."
            )
        kept.append({**record, "details": _without(details, bad)} if bad else record)
    return kept, list(sentences.values())


def drawn(
    what: str,
    write: Callable[[Sequence[Record], Drawings, Styles], list[Path]],
    records: Sequence[Record],
    drawings: Drawings,
    styles: Styles,
) -> tuple[list[Path], str | None]:
    """The figures that `write` draws and None; if it fails, no files and a sentence."""
    folder, apart = drawings.folder, drawings.folder / "figure"
    apart.mkdir()
    none: list[Path] = []
    files, problem = attempt(what, lambda: write(records, replace(drawings, folder=apart), styles), none)
    for file in sorted(apart.iterdir()):
        if problem is None:
            file.rename(folder / file.name)
        else:
            file.unlink()
    apart.rmdir()
    return [folder / file.name for file in files], problem


def _error(name: str, record: Record) -> str | None:
    for read in _READERS[name]:
        _, problem = attempt(name, partial(read, [record]), None)
        if problem is not None:
            return problem.partition(": ")[2].removesuffix(".")
    return None


def _without(details: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    return {name: value for name, value in details.items() if name not in set(names)}
