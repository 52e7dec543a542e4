"""Who works on which part of a plan at this moment, as far as the results folder shows."""

from collections.abc import Mapping
from dataclasses import dataclass

from abench.results.jobs import Cell, Job, SAEJob
from abench.results.store import Store
from abench.runs.plan import Plan


@dataclass(frozen=True)
class Work:
    """A piece of work that a process holds."""

    holder: str
    """The process, as `host, process 123`."""
    does: str
    """What the process does, e.g. `training, step 321 of 1,000`."""
    on: str
    """The SAE or cell on which it works, for the user."""


def works_of(plan: Plan, store: Store) -> dict[str, Work]:
    """The work that processes hold, by the keys of SAEs and cells, in the plan's order."""
    claims = store.claims()
    works: dict[str, Work] = {}
    for sae in plan.saes if claims else ():
        if sae.key in claims:
            works[sae.key] = Work(claims[sae.key], _on_sae(sae, store), f"{sae.label} at {sae.site}")
    for cell in plan.cells if claims else ():
        if cell.key in claims:
            on = f"{cell.sae.label} at {cell.sae.site}"
            works[cell.key] = Work(claims[cell.key], f"scoring {cell.label}", on)
    return works


def work_on(cell: Cell, works: Mapping[str, Work]) -> Work | None:
    """The work on a cell or, before that, on its SAE; None if no process holds either."""
    return works.get(cell.key) or works.get(cell.sae.key)


def why_missing(cell: Cell, store: Store) -> str:
    """Why a cell on which nobody works has no result, as far as the results folder shows."""
    sae, standing = cell.sae, store.sae_standing(cell.sae)
    if standing == "done":
        return "not scored yet"
    if standing == "damaged":
        return "its SAE is damaged; the next run trains it again"
    if standing == "failed":
        record = store.get_sae(sae)
        return f"its SAE failed: {record.reason}" if record else "its SAE failed"
    if not isinstance(sae, SAEJob):
        return "its SAE is not checked yet"
    step = store.checkpoint_step(sae)
    if step is None:
        return "its SAE is not trained yet"
    return f"training stopped at step {step:,} of {sae.training.steps:,}; the next run goes on"


def _on_sae(sae: Job, store: Store) -> str:
    if not isinstance(sae, SAEJob):
        return "checking"
    step = store.checkpoint_step(sae)
    return "training" if step is None else f"training, step {step:,} of {sae.training.steps:,}"
