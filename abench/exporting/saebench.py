"""sae-bench's result files: one per SAE and task, of sae-bench's own classes and in its folders.

A field that sae-bench requires and abench does not measure is NaN, never a made-up number; it is listed in
the file under `eval_result_unstructured`. A cell whose essential fields are missing is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from abench.errors import UserError
from abench.exporting.chosen import Chosen
from abench.exporting.saebench_tasks import TASKS, Converted, configuration
from abench.exporting.saelens import place_of
from abench.exporting.sources import config_of
from abench.report.validity import invalid_metrics
from abench.results.records import Record, SAERecord
from abench.storage.files import write_text
from abench.task import View
from abench.version import __version__

NOT_RUN = f"not run by SAE Bench, but by abench {__version__}"
"""In place of the commit of sae-bench that made a file."""


def write_saebench(chosen: Chosen, folder: Path, view: str) -> tuple[int, list[str]]:
    """Write TASK/NAME_eval_results.json for every cell that sae-bench has an evaluation for.

    Returns the number of files and sentences about what was left out. Raises UserError if there is nothing to
    write, or if several cells would have to share a file because only their options differ.
    """
    sources = {record.key: source for source, record in chosen.saes}
    saes = {record.key: record for _, record in chosen.saes}
    left_out: Counter[str] = Counter()
    cells: dict[tuple[str, str], Record] = {}
    for record in chosen.records:
        reason = _left_out(record, view, saes)
        if reason is not None:
            left_out[reason] += bool(reason)
            continue
        place = record.sae_key, str(record.labels["task"])
        if place in cells:
            raise UserError(
                f"{record.labels['task']} has several results for {place_of(saes[record.sae_key])}, which "
                "differ in their options; name the report to export"
            )
        cells[place] = record
    for record in cells.values():
        sae = saes[record.sae_key]
        _write(record, sae, config_of(sources[sae.key], sae), folder)
    notes = [f"left out: {reason} ({number})" for reason, number in left_out.items() if reason]
    if not cells:
        raise UserError(f"there is nothing to export for sae-bench; {'; '.join(notes) or 'no cell is done'}")
    return len(cells), notes


def _left_out(record: Record, view: str, saes: Mapping[str, SAERecord]) -> str | None:
    """Why a cell is left out; empty if that needs no mention, None if it is exported."""
    task = str(record.labels["task"])
    if record.status != "done":
        return f"cells of {task} that are {record.status}"
    if task not in TASKS:
        return f"cells of {task}, which sae-bench does not have"
    if record.sae_key not in saes:
        return "cells of SAEs that are not in this results folder"
    if record.labels["view"] != _view_of(record, view):
        return ""
    missing = TASKS[task].missing(asdict(record))
    return f"cells of {task} without {missing}" if missing else None


def _view_of(record: Record, view: str) -> str:
    """The view that is exported of a cell's task: tasks with one view have only `native`."""
    several: tuple[View, ...] = ("native", "split")
    return view if view in several and TASKS[str(record.labels["task"])].split else "native"


def name_of(sae: SAERecord) -> str:
    """The name under which sae-bench's code finds all results of one SAE."""
    return place_of(sae).replace("/", "_")


def _write(record: Record, sae: SAERecord, config: Mapping[str, Any], folder: Path) -> None:
    task = TASKS[str(record.labels["task"])]
    output = _output(record, sae, config, task.convert(_with_data(asdict(record), sae)))
    target = folder / task.name
    target.mkdir(exist_ok=True)
    text = json.dumps(asdict(output), indent=2, default=str)
    write_text(target / f"{name_of(sae)}_eval_results.json", text + "\n")


def _with_data(cell: dict[str, Any], sae: SAERecord) -> dict[str, Any]:
    """A cell whose SAE's spec states data: those of the run for an SAE that abench did not train."""
    known = {"data": sae.spec.get("data", sae.provenance.get("data"))}
    return cell | {"spec": cell["spec"] | {"sae": known | cell["spec"]["sae"]}}


def _output(record: Record, sae: SAERecord, config: Mapping[str, Any], converted: Converted) -> Any:
    """An instance of sae-bench's own class, which pydantic validates."""
    finished = datetime.fromisoformat(str(record.provenance["finished"]))
    tokens = sae.spec.get("training", {}).get("tokens")
    flat = {
        **config.get("metadata", {}),
        **{key: value for key, value in config.items() if key != "metadata"},
    }
    return converted.output(
        eval_config=configuration(converted, asdict(record)),
        eval_id=str(uuid5(NAMESPACE_URL, record.key)),
        datetime_epoch_millis=int(finished.timestamp() * 1000),
        eval_result_metrics=converted.metrics,
        eval_result_details=list(converted.details),
        sae_bench_commit_hash=NOT_RUN,
        sae_lens_id=None,
        sae_lens_release_id=None,
        sae_lens_version=record.provenance.get("packages", {}).get("sae-lens"),
        sae_cfg_dict=flat | ({} if tokens is None else {"training_tokens": tokens}),
        eval_result_unstructured={
            "abench": {
                "version": __version__,
                "key": record.key,
                "view": record.labels["view"],
                "task_version": record.labels["task_version"],
                "options": record.spec["task"]["options"],
                "not_measured": list(converted.not_measured),
                "not_meaningful": invalid_metrics(asdict(record)),
                "limited": record.limited,
            }
        },
    )
