"""Training SAEs that do not fit into memory together: one half after the other."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from abench.errors import MemoryShortageError, is_out_of_memory, outside_cause
from abench.lm.fitting import free_cached_memory
from abench.progress import Progress
from abench.results.jobs import SAEJob
from abench.results.store import SAERecord, Store
from abench.runs.provenance import provenance
from abench.storage.claims import Lease, LeaseLost

Mine = Sequence[tuple[SAEJob, Lease]]
"""SAEs that this process trains, with their leases."""


class Together(Protocol):
    """SAEs that are trained together."""

    @property
    def labels(self) -> set[str]:
        """Those that have neither failed nor been taken over by another process."""

    def train(self) -> None:
        """Train and save them; continues from their checkpoints."""


def train_fitting(
    mine: Mine,
    group_of: Callable[[Mine], Together],
    store: Store,
    progress: Progress,
    device: str,
) -> None:
    """Train SAEs together, or one half after the other if memory runs out; one that does not fit fails.

    The numbers of SAEs do not depend on each other. Raises StorageError.
    """
    wanted = {job.label for job, _ in mine}
    try:
        group = group_of(mine)
        try:
            group.train()
        finally:
            wanted = group.labels
            del group  # its tensors, before anything is tried again
        return
    except Exception as error:
        if not isinstance(error, MemoryShortageError) and not is_out_of_memory(error):
            raise
        said = str(error) if isinstance(error, MemoryShortageError) else ""
        shortage = outside_cause(error) or "there is not enough memory"
    free_cached_memory()
    left = [(job, lease) for job, lease in mine if job.label in wanted and not is_done(store, job)]
    if len(left) == 1:
        [(job, lease)] = left
        _fail_for(job, lease, said or _too_large(job, shortage), store, progress, device)
        return
    if left:
        progress.say(
            f"{shortage} to train {len(left)} SAEs together at {left[0][0].site}: they are trained in two "
            "halves, each of which reads the text"
        )
    for half in (left[: len(left) // 2], left[len(left) // 2 :]):
        if half:
            train_fitting(half, group_of, store, progress, device)


def _too_large(job: SAEJob, shortage: str) -> str:
    return (
        f"{shortage} to train an SAE of width {job.width:,} on batches of {job.training.batch_size:,} "
        "activations; batches are not made smaller, because that would change the weights: choose a smaller "
        "width or training.batch_size, or a device with more memory"
    )


def _fail_for(job: SAEJob, lease: Lease, reason: str, store: Store, progress: Progress, device: str) -> None:
    progress.say(f"{job.label} failed: {reason}")
    record = SAERecord(
        job.key, "failed", job.labels(), job.spec(), reason=reason, provenance=provenance(device, 0.0)
    )
    with suppress(LeaseLost):
        store.put_sae(job, record, None, lease)


def is_done(store: Store, job: SAEJob) -> bool:
    """Whether an SAE is in the store, trained."""
    record = store.get_sae(job)
    return record is not None and record.status == "done"
