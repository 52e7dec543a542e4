"""The report of a plan, from the results folder alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from shutil import get_terminal_size
from sys import intern
from typing import Any

from abench.report import prepare_report, write_prepared
from abench.report.about import training_facts
from abench.report.curves import read_curve
from abench.report.interactive import Contexts
from abench.report.losses import ValuesLostError
from abench.report.style import apart, titled
from abench.results.jobs import Cell, SAEJob
from abench.results.store import Record, Store
from abench.runs.about_run import about_run
from abench.runs.latent_contexts import stored_contexts
from abench.runs.plan import Plan
from abench.storage.faults import storage_error


@dataclass(frozen=True)
class Written:
    """A report on disk and its tables as text; only the tables if it could not be written."""

    folder: Path
    text: str
    kept: tuple[str, ...] = ()
    """Sentences about files of an earlier report that were changed by hand and are therefore kept."""
    refusal: str | None = None
    """Why the existing report is not replaced: values would be lost."""
    unwritten: str | None = None
    """Why nothing could be written, as a sentence."""
    read_only: bool = False
    """Whether nothing could be written because the folder is read-only."""

    @property
    def problem(self) -> str | None:
        """Why the folder does not hold this report; None if it does."""
        return self.refusal or self.unwritten


def records_of(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The records of a plan's cells as reports read them; cells without a result appear as missing."""
    names: dict[tuple[str, ...], tuple[str, ...]] = {}
    headlines = plan.config.metrics
    about = {sae.key: training_facts(plan.config.name, sae.spec()) for sae in plan.saes}
    return [
        _plain(cell, store.get_brief(cell) or _missing(cell), headlines, names)
        | {"about": about[cell.sae.key]}
        for cell in plan.cells
    ]


def write_plan_report(
    plan: Plan, store: Store, folder: Path | None = None, *, others: Sequence[Plan] = ()
) -> Written:
    """Write the report of a plan's cells, by default to its place in the results folder.

    `others` are the plans of further runs of the same configuration, whose cells the report also shows.
    The tables are returned as text even if the report could not be written. A report with values is not
    replaced by one without them. Raises UserError if the report's folder holds something else.
    """
    folder = folder or store.report_folder(plan.config.name)
    plans = (plan, *others)
    saes = [sae for each in plans for sae in each.saes]
    prepared = prepare_report(
        [record for each in plans for record in records_of(each, store)],
        title=_title(plan),
        footnotes=[finding for each in plans for finding in _findings(each, store)],
        styles={
            **titled({name: title for each in plans for name, title in _titles(each).items()}),
            **apart([sae.label for sae in saes if not sae.trained]),
        },
        about=about_run(plans),
        tasks={cell.task.name: type(cell.task) for each in plans for cell in each.cells},
    )
    # As wide as the terminal; without one, a width that fits most places.
    text = prepared.text(get_terminal_size((110, 24)).columns)
    texts = {sae.key: store.curve(sae) for sae in saes}
    curves = {key: read_curve(text) for key, text in texts.items() if text is not None}
    by_key = {cell.key: cell for each in plans for cell in each.cells}
    try:
        report = write_prepared(
            prepared,
            curves,
            folder,
            spec_of=lambda key: by_key[key].spec(),
            contexts=_contexts(plans, store),
        )
    except ValuesLostError as error:
        return Written(folder, text, refusal=str(error))
    except OSError as error:
        refused = storage_error(error, folder)
        unwritten = f"the report was not written: {refused}"
        return Written(folder, text, unwritten=unwritten, read_only=refused.read_only)
    return Written(report.folder, text, report.kept)


def _contexts(plans: Sequence[Plan], store: Store) -> dict[str, Contexts] | None:
    """The stored contexts of latents by SAE; None if no plan is of a model that reads text."""
    reading = [plan for plan in plans if not plan.model.config.synthetic]
    return {k: v for plan in reading for k, v in stored_contexts(plan, store).items()} if reading else None


def _findings(plan: Plan, store: Store) -> list[str]:
    """What given SAEs do other than their files promise, by SAE."""
    records = ((sae.label, store.get_sae(sae)) for sae in plan.saes if not sae.trained)
    return [
        f"{name}: {sentence}"
        for name, record in records
        if record is not None
        for sentence in record.provenance["findings"]
    ]


def _titles(plan: Plan) -> dict[str, str]:
    return {sae.variant.name: sae.variant.title for sae in plan.saes if isinstance(sae, SAEJob)}


def _title(plan: Plan) -> str:
    name, description = plan.config.name, plan.config.description
    return f"{name}: {description}" if description else name


def _plain(
    cell: Cell, record: Record, headlines: Sequence[str] | None, names: dict[tuple[str, ...], tuple[str, ...]]
) -> dict[str, Any]:
    """The part of a record that reports read, with the user's `headlines` as its headline metrics.

    The labels are those of this run: an SAE's name may tell apart settings, and that of an SAE that abench
    did not train may have changed. Names and texts that many records have in common are stored once.
    """
    plain = {name: getattr(record, name) for name in _READ}
    plain["labels"] = cell.labels()
    plain |= {name: _interned(plain[name], names) for name in ("scores", "provenance")}
    if headlines is not None:
        plain["metrics"] = [each | {"headline": each["name"] in headlines} for each in record.metrics]
    return plain


def _interned(part: Mapping[str, Any], names: dict[tuple[str, ...], tuple[str, ...]]) -> dict[str, Any]:
    own = tuple(part)
    values = [intern(each) if type(each) is str else each for each in part.values()]
    return dict(zip(names.setdefault(own, own), values, strict=True))


_READ = [each.name for each in fields(Record) if each.name not in {"spec", "traceback", "schema"}]
"""The fields that reports read. The specs of many cells would take several times the memory."""


def _missing(cell: Cell) -> Record:
    return Record(
        key=cell.key,
        status="missing",
        labels=cell.labels(),
        metrics=[asdict(metric) for metric in cell.task.metrics],
        sae_key=cell.sae.key,
        limited=cell.scoring.evaluation.limit is not None,
    )
