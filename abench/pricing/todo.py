"""What of a plan remains to be computed: SAEs to train and cells to score, without those that are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from abench.config import TrainingSpec
from abench.results.jobs import Cell, Job, SAEJob
from abench.results.store import Status, Store
from abench.runs.plan import Group, Plan
from abench.storage.keys import canonical_json
from abench.task import Task, wrong_kind
from abench.variants import Variant


@dataclass(frozen=True)
class Stream:
    """SAEs that are trained on the same batches."""

    site: str
    training: TrainingSpec
    saes: tuple[SAEJob, ...]

    @property
    def activations(self) -> int:
        """Activations that are read: whole blocks, and one more if thresholds are calibrated afterwards."""
        whole = self.training.buffer_tokens // self.training.batch_size
        blocks = -(-self.training.steps // whole)
        calibrated = any(type(sae.variant).calibrate is not Variant.calibrate for sae in self.saes)
        return (blocks + calibrated) * whole * self.training.batch_size


@dataclass(frozen=True)
class Scored:
    """The cells of one task at one site that have no score."""

    site: str
    task: Task
    cells: tuple[Cell, ...]
    first: bool
    """Whether the task has no stored cell of this model, so that what it needs once per model is missing."""


@dataclass(frozen=True)
class ToDo:
    """What remains of a plan."""

    streams: tuple[Stream, ...]
    scored: tuple[Scored, ...]
    cached_saes: int
    cached_cells: int


def to_do(plan: Plan, store: Store | None, standings: Mapping[str, Status] | None = None) -> ToDo:
    """What a run of the plan on this results folder computes; None stands for an empty folder.

    `standings` are those of the plan's cells by their keys, if already looked up.
    """
    if standings is None:
        standings = {cell.key: store.standing(cell) for cell in plan.cells} if store else {}
    streams: list[Stream] = []
    scored: list[Scored] = []
    done = {key for key, standing in standings.items() if standing in ("done", "skipped")}
    begun = {id(cell.task) for cell in plan.cells if cell.key in done}
    for group in plan.groups:
        pending = [cell for cell in group.cells if cell.key not in done and _can_run(cell, plan)]
        streams += _streams(group, _missing(pending, store))
        for task in {id(cell.task): cell.task for cell in pending}.values():
            cells = tuple(cell for cell in pending if cell.task is task)
            scored.append(Scored(group.site, task, cells, id(task) not in begun))
            begun.add(id(task))
    needed = sum(len(stream.saes) for stream in streams)
    trained = sum(job.trained for job in plan.saes)
    return ToDo(tuple(streams), tuple(scored), trained - needed, len(done))


def _can_run(cell: Cell, plan: Plan) -> bool:
    return wrong_kind(cell.task, plan.model.config.kind) is None


def _missing(pending: Sequence[Cell], store: Store | None) -> list[SAEJob]:
    jobs: dict[str, Job] = {cell.sae.key: cell.sae for cell in pending}
    return [
        job
        for job in jobs.values()
        if isinstance(job, SAEJob) and (store is None or store.sae_standing(job) != "done")
    ]


def _streams(group: Group, jobs: Sequence[SAEJob]) -> list[Stream]:
    found: dict[str, list[SAEJob]] = {}
    for job in jobs:
        found.setdefault(canonical_json(job.training.of_the_stream()), []).append(job)
    return [Stream(group.site, saes[0].training, tuple(saes)) for saes in found.values()]
