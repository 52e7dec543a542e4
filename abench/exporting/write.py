"""Writing one export, by its format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from abench.errors import UserError
from abench.exporting.card import UNKNOWN, write_hub_folder
from abench.exporting.chosen import Chosen
from abench.exporting.saebench import write_saebench
from abench.exporting.saelens import REGISTERS, ExportedSAE, write_saes
from abench.exporting.scores import write_scores


@dataclass(frozen=True)
class Written:
    """What an export wrote."""

    number: int
    what: str
    """A singular noun: `SAE`."""
    notes: tuple[str, ...] = ()
    """Sentences about what was left out or needs attention."""


def write_export(chosen: Chosen, folder: Path, form: str, *, licence: str | None, view: str) -> Written:
    """Write what was chosen to an empty folder; raises UserError if there is nothing to write."""
    written = _FORMATS[form](chosen, folder, licence, view)
    return replace(written, notes=(*chosen.notes, *written.notes))


def _csv(chosen: Chosen, folder: Path, _licence: str | None, _view: str) -> Written:
    if not chosen.records:
        raise UserError("there are no cells to export: `abench run` computes some")
    write_scores(chosen.records, folder)
    return Written(len(chosen.records), "cell")


def _saelens(chosen: Chosen, folder: Path, _licence: str | None, _view: str) -> Written:
    _check_saes(chosen)
    saes, notes = write_saes(chosen.saes, folder)
    return Written(len(saes), "SAE", (*notes, *_of_abench(saes)))


def _hub(chosen: Chosen, folder: Path, licence: str | None, _view: str) -> Written:
    _check_saes(chosen)
    saes, notes = write_hub_folder(chosen, folder, licence=licence or UNKNOWN)
    unstated = "the model card states no licence: name one with --licence, e.g. --licence mit"
    return Written(len(saes), "SAE", (*notes, *_of_abench(saes), *([] if licence else [unstated])))


def _saebench(chosen: Chosen, folder: Path, _licence: str | None, view: str) -> Written:
    number, notes = write_saebench(chosen, folder, view)
    return Written(number, "result file", tuple(notes))


_FORMATS: Mapping[str, Callable[[Chosen, Path, str | None, str], Written]] = {
    "csv": _csv,
    "hf": _hub,
    "saebench": _saebench,
    "saelens": _saelens,
}


def _check_saes(chosen: Chosen) -> None:
    if not chosen.saes:
        why = f"; {'; '.join(chosen.notes)}" if chosen.notes else ""
        raise UserError(f"there are no SAEs to export: `abench run` trains or scores some{why}")


def _of_abench(saes: list[ExportedSAE]) -> list[str]:
    names = sorted({sae.architecture for sae in saes if not sae.plain})
    if not names:
        return []
    return [f"sae-lens lacks {', '.join(names)}: `import {REGISTERS}` before loading these SAEs"]
