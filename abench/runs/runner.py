"""Executing a plan serially: train missing SAEs, score missing cells, record everything.

torch and the model are loaded only when something has to be computed; a run whose results are all in the
folder needs neither.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from abench.amounts import summed
from abench.errors import UserError, outside_cause
from abench.parts import plain_parts
from abench.progress import Progress, Silent
from abench.results.jobs import Cell, Job, SAEJob
from abench.results.store import Record, SAERecord, Status, Store
from abench.runs.activation_caching import ActivationCaching
from abench.runs.given import GivenSAE
from abench.runs.model_opening import Models, Opener, always
from abench.runs.once import Once
from abench.runs.opened_saes import OpenedSAEs
from abench.runs.outcome import Outcome as Outcome
from abench.runs.outcome import is_settled as is_settled
from abench.runs.outcome import outcome_of, report_damage, settled
from abench.runs.plan import Group, Plan
from abench.runs.provenance import how_read, provenance
from abench.runs.reported import Reported
from abench.storage.claims import Lease, LeaseLost
from abench.storage.faults import StorageError
from abench.task import Context, Skip, Task, checked, parted, reason_to_skip, with_values, wrong_kind

if TYPE_CHECKING:
    from abench.data.activations import ActivationSource
    from abench.lm.models import LanguageModel

WAIT_SECONDS = 1.0


def run_plan(
    plan: Plan,
    store: Store,
    *,
    progress: Progress | None = None,
    device: str | None = "cpu",
    checkpoint_seconds: float = 30.0,
    lm: LanguageModel | None = None,
) -> Outcome:
    """Compute every cell of the plan that the store does not hold. Running it again resumes it.

    `lm` is the plan's model if it is open already.

    A failing SAE or task affects only its own cells. Work that another process is doing on the same store is
    left to it; the run waits for it when it has nothing else to do. A `device` of None means the GPU, or the
    CPU without a GPU. Raises UserError for a model that cannot be opened or text that ends too early, and its
    subclass StorageError if results cannot be written; results written before remain.
    """
    opener, progress = None if lm is None else always(lm), progress or Silent()
    with ActivationCaching.of_run(plan, store, progress) as caching:
        runner = _Runner(plan, store, progress, device, checkpoint_seconds, opener, caching)
        if lm is not None:
            runner.check_sites(lm)
        store.clear_leftovers()
        cached = settled(plan, store)
        runner.report_damage()
        if cached < len(plan.cells):
            store.check_writable()
        runner.compute()
    return outcome_of(plan, store, cached=cached, tried=runner.tried)


def compute_share(
    share: Plan,
    store: Store,
    *,
    progress: Progress,
    device: str,
    checkpoint_seconds: float,
    opener: Opener,
    tried: Collection[str] = (),
    only_train: bool = False,
) -> frozenset[str]:
    """Compute a part of a plan on behalf of a run; returns the keys on which the run has failed so far.

    `opener` returns the plan's model, `tried` are the keys on which the run has failed elsewhere. With
    `only_train`, the SAEs are trained and no cell is scored. Raises what `run_plan` raises.
    """
    with ActivationCaching.of_share(share, store, progress) as caching:
        runner = _Runner(share, store, progress, device, checkpoint_seconds, opener, caching, tried)
        if only_train:
            runner.train()
        else:
            runner.compute()
    return frozenset(runner.tried)


class _Runner:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        progress: Progress,
        device: str | None,
        checkpoint_seconds: float,
        opener: Opener | None,
        caching: ActivationCaching,
        tried: Collection[str] = (),
    ) -> None:
        self._caching = caching
        self._plan, self._store, self._progress = plan, store, progress
        self._asked_device, self._checkpoint_seconds = device, checkpoint_seconds
        self._opener = opener
        self._lm: LanguageModel | ActivationSource | None = None
        self.tried: set[str] = set(tried)
        """Keys on which this run has failed; they are not tried again."""
        self._reasons: dict[tuple[int, str, str], Once] = {}
        """By task, site and view: why the task cannot run there, determined once for all SAEs."""
        self._memories: dict[tuple[int, str], dict[Any, Any]] = {}
        """By task and site: the task's memory from the first check until its SAEs are scored."""
        self._readable_text = Once(self._check_text)
        """Returns once the training text has been found to be readable; asked once for all cells."""

    def compute(self) -> None:
        """Compute the cells of all groups. Waits only when other processes hold all that is missing."""
        groups, announced = list(self._plan.groups), False
        while groups:
            before = self._pending_in(groups)
            for group in groups:
                self._advance(group)
            groups = [group for group in groups if any(map(self._is_pending, group.cells))]
            if groups and self._pending_in(groups) == before:
                announced = announced or self._announce_wait(groups)
                time.sleep(WAIT_SECONDS)

    def train(self) -> None:
        """Train the SAEs that are missing for cells that can have a score, and score nothing."""
        for group in self._plan.groups:
            self._retrain_damaged(group)
            wanted = {}
            for cell in filter(self._is_pending, group.cells):
                if cell.sae.key not in wanted and self._can_be_scored(cell):
                    wanted[cell.sae.key] = cell.sae
            self._obtain(wanted)

    def _pending_in(self, groups: Sequence[Group]) -> int:
        return sum(self._is_pending(cell) for group in groups for cell in group.cells)

    def _advance(self, group: Group) -> None:
        """Compute what is missing in a group and not held by another process."""
        self._retrain_damaged(group)
        pending = [cell for cell in group.cells if self._is_pending(cell)]
        self._settle_early(pending)
        pending = [cell for cell in pending if self._is_pending(cell)]
        self._obtain({cell.sae.key: cell.sae for cell in pending})
        # By identity: options such as mappings have no hash.
        for task in {id(cell.task): cell.task for cell in pending}.values():
            self._score_task(task, [cell for cell in pending if cell.task is task])
        self.report_damage()

    def _retrain_damaged(self, group: Group) -> None:
        self._obtain({sae.key: sae for sae in group.saes if self._store.sae_standing(sae) == "damaged"})

    def _settle_early(self, cells: Sequence[Cell]) -> None:
        """Settle the cells that cannot have a score, before anything is trained for them."""
        if any(wrong_kind(cell.task, self._plan.model.config.kind) is None for cell in cells):
            self._model()  # a model that cannot be opened ends the run instead of failing cells
        for cell in cells:
            if self._can_be_scored(cell):
                continue
            with self._store.claim(cell.key) as lease:
                if lease and self._is_pending(cell):
                    self._settle(cell, partial(self._refused, cell), lease)

    def _can_be_scored(self, cell: Cell) -> bool:
        try:
            return self._reason_to_skip(cell) is None
        except (Exception, SystemExit):
            if self._sae(cell.sae) is None:
                self._readable_text()
            return False  # the error is stored, and raised again when the cell is settled

    def _check_text(self) -> None:
        """Raise UserError if the training text cannot be read: that ends the run and is no cell's failure."""
        from abench.data.texts import texts

        if self._plan.model.config.kind == "language":
            next(texts(self._plan.data, "train"), None)

    def _refused(self, cell: Cell) -> Record:
        return self._record(cell, "skipped", reason=self._reason_to_skip(cell))

    def _reason_to_skip(self, cell: Cell) -> str | None:
        def ask() -> str | None:
            wrong = wrong_kind(cell.task, self._plan.model.config.kind)
            return wrong or reason_to_skip(cell.task, self._model(), self._context(cell))

        reason: str | None = self._reasons.setdefault((id(cell.task), cell.sae.site, cell.view), Once(ask))()
        return reason

    def _is_pending(self, cell: Cell) -> bool:
        return cell.key not in self.tried and not is_settled(self._store.standing(cell))

    def _announce_wait(self, groups: Sequence[Group]) -> bool:
        pending = [cell for group in groups for cell in group.cells if self._is_pending(cell)]
        keys = [key for cell in pending for key in (cell.sae.key, cell.key)]
        holders = sorted({who for key in keys if (who := self._store.claimed_by(key))})
        cells = f"{len(pending)} cells" if len(pending) > 1 else "1 cell"
        self._progress.say(f"waiting for {cells} held by {' and '.join(holders) or 'other processes'}")
        return True

    def _obtain(self, jobs: dict[str, Job]) -> None:
        """Train the SAEs that are missing, and check those that exist already."""
        missing = [job for job in jobs.values() if job.key not in self.tried and self._sae(job) is None]
        self.report_damage()
        if not missing:
            return
        from abench.runs.given_check import check_given
        from abench.runs.group_training import train_missing

        device, lm = self._device, self._model()
        if given := [job for job in missing if isinstance(job, GivenSAE)]:
            check_given(given, lm, self._store, self._progress, device=device, data=self._plan.data)
        if to_train := [job for job in missing if isinstance(job, SAEJob)]:
            seconds = self._checkpoint_seconds
            rows = self._caching.rows(lm, self._sites_to_train)
            train_missing(
                *(to_train, lm, self._store, self._progress),
                device=device,
                checkpoint_seconds=seconds,
                row_activations=rows,
            )
        self.tried |= {job.key for job in missing if self._store.get_sae(job) is not None}

    def _sites_to_train(self) -> list[str]:
        """The sites at which SAEs are missing."""
        missing = (cell for cell in self._plan.cells if cell.sae.trained and self._is_pending(cell))
        return list(dict.fromkeys(cell.sae.site for cell in missing if self._sae(cell.sae) is None))

    def _sae(self, job: Job) -> SAERecord | None:
        """The SAE's record if it is trained, or checked, or has failed in this run; else None."""
        record = self._store.get_sae(job)
        failed_before = record is not None and record.status == "failed" and job.key not in self.tried
        return None if failed_before else record

    def _score_task(self, task: Task, cells: Sequence[Cell]) -> None:
        from abench.lm.models import LanguageModel

        lm = self._model()
        if isinstance(lm, LanguageModel):
            lm.fitting.begin()
        jobs = {cell.sae.key: cell.sae for cell in cells}
        saes = OpenedSAEs(self._store, jobs, device=self._device, d_model=lm.d_model)
        context = self._context(cells[0])
        shared = Reported()
        prepare = Once(
            lambda: (
                task.prepare(lm, shared.to(replace(context, view="native", saes=saes.whole()))),
                shared,
            )
        )
        with self._progress.steps(f"scoring {task.name} at {cells[0].sae.site}", len(cells)) as steps:
            settled = 0
            for cell in cells:
                with self._store.claim(cell.key) as lease:
                    if lease and self._is_pending(cell) and (sae := self._sae(cell.sae)) is not None:
                        self._settle(cell, partial(self._score, cell, sae, saes, prepare), lease)
                        self.report_damage()
                if not self._is_pending(cell):  # else another process holds it
                    settled += 1
                    steps.advance_to(settled, cell.sae.label)
        del self._memories[id(task), cells[0].sae.site]

    def _settle(self, cell: Cell, compute: Callable[[], Record], lease: Lease) -> None:
        """Compute one cell and store its result: done, skipped or failed."""
        started = time.perf_counter()
        try:
            record = compute()
        except Skip as reason:
            record = self._record(cell, "skipped", reason=str(reason))
        except StorageError:
            raise  # a storage failure is not the cell's result
        except (Exception, SystemExit) as error:
            # An exception, even a task's sys.exit(), is the cell's result; the run continues.
            record = self._record(cell, "failed", reason=_reason(error), traceback=traceback.format_exc())
        seconds = time.perf_counter() - started
        facts = provenance(self._device, seconds) | how_read(self._lm)
        kept = self._put(cell, replace(record, provenance=facts), lease)
        if kept and record.status == "failed":
            self.tried.add(cell.key)
            self._progress.say(f"{cell.sae.label} · {cell.label} failed: {record.reason}")

    def _put(self, cell: Cell, record: Record, lease: Lease) -> bool:
        """Store a record; returns False, and reports it, if another process has taken over the work."""
        try:
            self._store.put(cell, record, lease)
        except LeaseLost:
            self._progress.say(
                f"{cell.sae.label} · {cell.label}: another process has taken over because this one did not "
                "respond for too long; its result is used"
            )
            return False
        return True

    def _score(self, cell: Cell, sae: SAERecord, saes: OpenedSAEs, prepare: Once) -> Record:
        if sae.status == "failed":
            return self._record(cell, "failed", reason=_unusable(cell.sae, sae))
        reason = self._reason_to_skip(cell)
        if reason is not None:
            return self._record(cell, "skipped", reason=reason)
        import torch

        from abench.latents.views import in_view

        with torch.no_grad():
            loaded = saes(cell.sae.key)
            prepared, shared = prepare()
            own = Reported()
            context = own.to_score(self._context(cell))
            result = cell.task.score(in_view(loaded, cell.view), prepared, self._model(), context)
        scores, details = parted(cell.task, result)
        return self._record(
            cell,
            "done",
            scores=checked(cell.task, scores),
            details=details,
            used=summed((*shared.amounts, *own.amounts)),
            parts=plain_parts(shared.parts),
            valid_if=with_values(cell.task, (*shared.measured, *own.measured)),
        )

    def _record(self, cell: Cell, status: Status, **more: Any) -> Record:
        return Record(
            key=cell.key,
            status=status,
            labels=cell.labels(),
            metrics=[asdict(metric) for metric in cell.task.metrics],
            limited=cell.scoring.evaluation.limit is not None,
            sae_key=cell.sae.key,
            spec=cell.spec(),
            **more,
        )

    def _context(self, cell: Cell) -> Context:
        return Context(
            site=cell.sae.site,
            evaluation=cell.scoring.evaluation,
            data=self._plan.data,
            context_size=self._plan.model.context,
            view=cell.view,
            device=self._device,
            model=self._plan.model.spec(),
            inputs=dict(cell.scoring.inputs),
            kept=self._store.kept(),
            say=self._progress.say,
            progress=self._progress,
            memory=self._memories.setdefault((id(cell.task), cell.sae.site), {}),
        )

    @cached_property
    def _device(self) -> str:
        """The device of SAEs and activations."""
        from abench.lm.devices import computing_device, usable_device

        return computing_device(usable_device(self._asked_device))

    def _model(self) -> LanguageModel | ActivationSource:
        if self._lm is None:
            from abench.lm.devices import usable_device

            opener = self._opener or Models(self._progress)
            self._lm = opener(self._plan.model, usable_device(self._asked_device))
            self.check_sites(self._lm)
        return self._lm

    def check_sites(self, lm: LanguageModel | ActivationSource) -> None:
        """Raise UserError for a site that the model lacks, before anything is trained."""
        from abench.lm.models import LanguageModel

        if isinstance(lm, LanguageModel):
            lm.check_sites([group.site for group in self._plan.groups])

    def report_damage(self) -> None:
        report_damage(self._store, self._progress)


def _unusable(job: Job, record: SAERecord) -> str:
    what = "could not be trained" if job.trained else "cannot be scored"
    return f"the SAE {what}: {record.reason}"


def _reason(error: BaseException) -> str:
    """The error as one sentence: abench's own messages unchanged, others after the error's type."""
    text = str(error).strip().replace("\n", " ")
    if isinstance(error, UserError):
        return text
    return outside_cause(error) or f"{type(error).__name__}: {text}".removesuffix(": ")
