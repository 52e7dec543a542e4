"""The interface of executors, which decide where the parts of a plan are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from abench.progress import Progress
    from abench.results.store import Store
    from abench.runs.outcome import Outcome
    from abench.runs.plan import Plan


@dataclass(frozen=True)
class Placement:
    """Where a run must be computed, as its user describes it."""

    devices: tuple[str, ...] = ()
    """The devices; empty means the GPU if there is one, otherwise the CPU."""
    address: str | None = None
    """The address of a cluster."""
    checkpoint_seconds: float = 30.0
    """Shortest time between two checkpoints of an SAE that is being trained."""
    plugins: tuple[Path, ...] = ()
    """Folders with the plug-ins of the run."""


class Executor(ABC):
    """Computes plans. Keys, weights and scores are the same whichever executor computes them.

    A subclass is created with a placement, and raises UserError for one that it cannot use.
    """

    name: ClassVar[str]
    computes_here: ClassVar[bool] = True
    """Whether this machine computes, so that a run must fit into its memory."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement

    @abstractmethod
    def run(self, plan: Plan, store: Store, progress: Progress) -> Outcome:
        """Compute every cell that the store does not hold, as `abench.runs.runner.run_plan` does.

        Raises UserError; results written before remain, and running it again resumes.
        """
