"""The SAEs that a task scores."""

from contextlib import suppress
from functools import partial
from typing import Any

from abench.errors import UserError
from abench.results.jobs import Job
from abench.results.store import Store
from abench.runs.once import Once


class OpenedSAEs:
    """The SAEs that a task scores; each is read once, when it is first needed."""

    def __init__(self, store: Store, jobs: dict[str, Job], *, device: str, d_model: int) -> None:
        self._store, self._device, self._d_model = store, device, d_model
        self._each = {key: Once(partial(self._read, job)) for key, job in jobs.items()}

    def _read(self, job: Job) -> Any:
        record = self._store.get_sae(job)
        if record is None or record.status != "done":
            raise UserError(f"{job.label} is not trained")
        sae = job.open(self._store.sae(job), self._device)
        if sae.cfg.d_in != self._d_model:
            raise UserError(
                f"{job.label} takes activations of width {sae.cfg.d_in}, but the model's are of width "
                f"{self._d_model}"
            )
        return sae

    def __call__(self, key: str) -> Any:
        return self._each[key]()

    def whole(self) -> tuple[Any, ...]:
        """The SAEs that can be read; requesting another one by key raises its error."""
        found = []
        for read in self._each.values():
            with suppress(Exception):
                found.append(read())
        return tuple(found)
