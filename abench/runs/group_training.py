"""Training the SAEs of a group: leases, checkpoints, resuming, and saving to the results folder."""

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from shutil import rmtree

import torch

from abench.data.activations import ActivationSource, ActivationStream
from abench.data.readers import RowActivations
from abench.errors import UserError
from abench.lm.catalogue import recorded
from abench.lm.models import LanguageModel
from abench.passes import pass_of
from abench.progress import Progress, Steps
from abench.results.jobs import SAEJob
from abench.results.recorded import text_place
from abench.results.store import CURVE_FILE, SAERecord, Store
from abench.runs.pace import Pace
from abench.runs.provenance import how_read, provenance
from abench.runs.training_memory import Mine, is_done, train_fitting
from abench.storage.claims import Lease, LeaseLost
from abench.storage.faults import StorageError, writing
from abench.storage.keys import canonical_json
from abench.storage.sealed import manifest_of
from abench.training.checkpoint import StreamState, delete_checkpoint, load_checkpoint, save_checkpoint
from abench.training.trainer import CurvePoint, Diverged, SAETrainer, run_lockstep
from abench.variants import SAEShape, Variant, save_sae
from abench.version import __version__

CHECKPOINT_SHARE = 0.02
"""The largest share of the time that may be spent on writing checkpoints."""


def train_missing(
    jobs: Sequence[SAEJob],
    lm: LanguageModel | ActivationSource,
    store: Store,
    progress: Progress,
    *,
    device: str,
    checkpoint_seconds: float,
    row_activations: RowActivations | None = None,
) -> None:
    """Train those of `jobs` that are not in the store and that no other process is training.

    `row_activations` gives what the model would compute from rows of tokens; None: it computes it.

    If another process takes over an SAE's lease, the SAE is left to that process. SAEs that do not fit into
    memory together are trained one half after the other; one that does not fit by itself fails. Raises
    StorageError.
    """

    def group_of(mine: Mine) -> _Group:
        return _Group(mine, lm, store, progress, device, checkpoint_seconds, row_activations)

    with ExitStack() as stack:
        mine: list[tuple[SAEJob, Lease]] = []
        for job in jobs:
            lease = stack.enter_context(store.claim(job.key))
            if lease is not None and not is_done(store, job):
                mine.append((job, lease))
        for group in _by_stream(mine):
            train_fitting(group, group_of, store, progress, device)


def _by_stream(mine: Sequence[tuple[SAEJob, Lease]]) -> list[list[tuple[SAEJob, Lease]]]:
    """The SAEs that can be trained on the same batches, together."""
    found: dict[str, list[tuple[SAEJob, Lease]]] = {}
    for job, lease in mine:
        found.setdefault(canonical_json(job.training.of_the_stream()), []).append((job, lease))
    return list(found.values())


class _Group:
    """The SAEs that this process trains in lockstep.

    They differ only in variant, k, width, seed, and in what affects the training steps of one SAE.
    """

    def __init__(
        self,
        mine: Sequence[tuple[SAEJob, Lease]],
        lm: LanguageModel | ActivationSource,
        store: Store,
        progress: Progress,
        device: str,
        checkpoint_seconds: float,
        row_activations: RowActivations | None,
    ) -> None:
        jobs = [job for job, _ in mine]
        self._store, self._progress, self._device = store, progress, device
        self._spec, self._site = jobs[0].training, jobs[0].site
        self._context, self._lm = jobs[0].model.context, lm
        self._jobs = {job.label: job for job in jobs}
        self._leases = {job.label: lease for job, lease in mine}
        self._trainers = {job.label: self._trainer(job) for job in jobs}
        self._stream = ActivationStream(
            lm,
            self._site,
            jobs[0].data,
            self._spec,
            context=self._context,
            watched=self._reading,
            row_activations=row_activations,
        )
        self._pace = Pace(self._spec.steps, self._spec.batch_size)
        self._checkpoint_seconds = checkpoint_seconds
        self._next_checkpoint = time.monotonic() + checkpoint_seconds

    @property
    def labels(self) -> set[str]:
        """The SAEs that have neither failed nor been taken over by another process."""
        return set(self._trainers)

    def _trainer(self, job: SAEJob) -> SAETrainer:
        shape = SAEShape(self._lm.d_model, job.width, job.k, self._device)
        return SAETrainer(job.variant, shape, job.training, seed=job.seed, label=job.label)

    def train(self) -> None:
        if isinstance(self._lm, LanguageModel):
            self._lm.fitting.begin()
        start, batches = self._restore()
        if not self._trainers:
            return
        many = "SAE" if len(self._trainers) == 1 else "SAEs"
        title = f"training {len(self._trainers)} {many} at {self._site}"
        if start:
            self._progress.say(f"{title}: resuming from step {start} of {self._spec.steps}")
        self._pace.start(start)
        with self._progress.steps(title, self._spec.steps, start) as steps:
            run_lockstep(
                list(self._trainers.values()),
                batches,
                start=start,
                on_step=lambda step: self._after_step(step, steps),
                on_diverged=self._fail,
                is_wanted=lambda trainer: trainer.label in self._trainers,
            )
        self._finish(batches)

    def _restore(self) -> tuple[int, Iterator[torch.Tensor]]:
        """Load checkpoints; returns the number of the first batch needed, and the batches from there."""
        states: dict[str, StreamState | None] = {}
        for label, trainer in tuple(self._trainers.items()):
            with self._unless_lost(trainer) as lease:
                place = self._store.checkpoint(self._jobs[label])
                states[label] = load_checkpoint(trainer, place, self._progress.say, lease=lease)
        if not self._trainers:
            return 0, iter(())
        first = min(self._trainers.values(), key=lambda trainer: trainer.step)
        state = states[first.label]
        if state is not None:
            self._stream.statistics = state.statistics
        return first.step, self._stream.batches(first.step, block_start=state.position if state else None)

    @contextmanager
    def _reading(self, size: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of reading `size` activations, and measure its pace."""
        started, have = time.monotonic(), 0
        title = f"reading activations at {self._site}"
        with pass_of(self._progress, title, size, "tokens") as steps:

            def see(done: int) -> None:
                nonlocal have
                have = done
                steps.advance_to(done)

            yield see
        self._pace.has_read(have, time.monotonic() - started)

    def _after_step(self, step: int, steps: Steps) -> None:
        self._pace.has_stepped()
        steps.advance_to(step, self._detail(), left=self._pace.seconds_left(step))
        for trainer in [t for t in self._trainers.values() if self._leases[t.label].lost]:
            self._leave(trainer)
        if time.monotonic() >= self._next_checkpoint and step < self._spec.steps:
            started = time.monotonic()
            for trainer in tuple(self._trainers.values()):
                self._checkpoint(trainer)
            now = time.monotonic()
            self._next_checkpoint = now + max(self._checkpoint_seconds, (now - started) / CHECKPOINT_SHARE)

    def _detail(self) -> str:
        done = sum(trainer.counters.seconds for trainer in self._trainers.values())
        trained = sum(trainer.tokens for trainer in self._trainers.values())
        losses = [t.curve[-1].mse for t in self._trainers.values() if t.curve]
        if not done or not losses:
            return ""
        return f"{trained / done:,.0f} tokens/s per SAE · mse {min(losses):.3g} to {max(losses):.3g}"

    def _checkpoint(self, trainer: SAETrainer) -> None:
        if self._stream.statistics is None:
            raise RuntimeError("a checkpoint before the first batch")
        state = StreamState(self._stream.start_of(trainer.step), self._stream.statistics)
        place = self._store.checkpoint(self._jobs[trainer.label])
        with self._unless_lost(trainer) as lease:
            save_checkpoint(trainer, state, place, lease=lease)

    @contextmanager
    def _unless_lost(self, trainer: SAETrainer) -> Iterator[Lease]:
        """Yield an SAE's lease for writing; if the lease proves to be lost, stop working on the SAE."""
        try:
            yield self._leases[trainer.label]
        except LeaseLost:
            self._leave(trainer)

    def _leave(self, trainer: SAETrainer) -> None:
        """Stop working on an SAE that another process has taken over."""
        self._progress.say(
            f"{trainer.label}: another process has taken over because this one did not respond for too long; "
            "its result is used"
        )
        del self._trainers[trainer.label]

    def _fail(self, trainer: SAETrainer, error: Diverged | UserError) -> None:
        job = self._jobs[trainer.label]
        self._progress.say(f"{job.label} failed: {error}")
        record = SAERecord(
            key=job.key,
            status="failed",
            labels=job.labels(),
            spec=job.spec(),
            reason=str(error),
            provenance=provenance(self._device, trainer.counters.seconds),
        )
        with self._unless_lost(trainer) as lease:
            self._store.put_sae(job, record, None, lease)
            self._delete_checkpoint(job, lease)
            del self._trainers[trainer.label]

    def _finish(self, batches: Iterator[torch.Tensor]) -> None:
        """Save and record every fully trained SAE; those that need calibration come last."""
        waiting = []
        for trainer in tuple(self._trainers.values()):
            if type(trainer.variant).calibrate is Variant.calibrate:
                self._save(trainer)
            else:
                waiting.append(trainer)
        if not waiting:
            return
        try:
            calibration = self._calibration(batches)
        except StorageError:
            raise
        except UserError as error:
            for trainer in waiting:
                self._fail(trainer, error)
            return
        for trainer in waiting:
            trainer.finish(calibration)
            self._save(trainer)

    def _calibration(self, batches: Iterator[torch.Tensor]) -> torch.Tensor:
        """The stream's activations after training, [tokens, d_in]; fewer than configured if it ends early.

        Raises UserError if none can be read.
        """
        wanted = max(1, self._spec.calibration_tokens // self._spec.batch_size)
        read: list[torch.Tensor] = []
        reason = "the activations end there"
        try:
            for batch in islice(batches, wanted):
                read.append(batch)  # noqa: PERF402 - keeps the batches read before an error
        except StorageError:
            raise
        except UserError as error:
            reason = str(error)
        if not read:
            raise UserError(f"its threshold cannot be calibrated: {reason}")
        tokens, asked = sum(map(len, read)), wanted * self._spec.batch_size
        if tokens < asked:
            self._progress.say(f"thresholds are calibrated on {tokens:,} of {asked:,} activations: {reason}")
        return torch.cat(read)

    def _save(self, trainer: SAETrainer) -> None:
        job = self._jobs[trainer.label]
        with self._unless_lost(trainer) as lease:
            draft = self._store.draft_folder(job, lease)
            try:
                with writing(draft):
                    self._write(trainer, draft)
                self._store.put_sae(job, self._record(trainer, draft), draft, lease)
            finally:
                rmtree(draft, ignore_errors=True)
            self._delete_checkpoint(job, lease)

    def _write(self, trainer: SAETrainer, draft: Path) -> None:
        if self._stream.statistics is None:
            raise RuntimeError("an SAE was trained without input statistics")
        save_sae(
            trainer.sae,
            draft,
            scale=self._stream.statistics.scale,
            metadata=self._metadata(self._jobs[trainer.label]),
            layer_norm=self._spec.normalisation == "layer_norm",
        )
        write_curve(draft / CURVE_FILE, trainer.curve)

    def _record(self, trainer: SAETrainer, draft: Path) -> SAERecord:
        job = self._jobs[trainer.label]
        return SAERecord(
            key=job.key,
            status="done",
            labels=job.labels(),
            spec=job.spec(),
            files=manifest_of(draft),
            provenance=provenance(self._device, trainer.counters.seconds)
            | {"model": recorded(job.model.config)}
            | how_read(self._lm)
            | text_place(job.data),
        )

    def _delete_checkpoint(self, job: SAEJob, lease: Lease) -> None:
        # Under the lease, because the next holder's checkpoint lies in the same place.
        with suppress(LeaseLost):
            delete_checkpoint(self._store.checkpoint(job), lease)

    def _metadata(self, job: SAEJob) -> dict[str, object]:
        data = "synthetic" if job.model.config.synthetic else job.data.dataset or job.data.source
        return {
            "model_name": job.model.config.source,
            "model_commit": job.model.commit,
            "hook_name": job.site,
            "context_size": job.model.context,
            "prepend_bos": isinstance(self._lm, LanguageModel) and self._lm.bos_id is not None,
            "dataset_path": data,
            "abench_version": __version__,
            "abench_variant": job.variant.name,
            "abench_key": job.key,
        }


def write_curve(file: Path, curve: Sequence[CurvePoint]) -> None:
    """Write a training curve as CSV: step, tokens, mse, l0, dead, seconds."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(CurvePoint)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(point) for point in curve)
