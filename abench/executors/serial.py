"""One group after the other, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from abench.errors import UserError
from abench.executors.base import Executor, Placement

if TYPE_CHECKING:
    from abench.progress import Progress
    from abench.results.store import Store
    from abench.runs.outcome import Outcome
    from abench.runs.plan import Plan


class Serial(Executor):
    """Compute one group after the other, in this process."""

    name: ClassVar[str] = "serial"

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement)
        if placement.address is not None:
            raise UserError(f"--ray-address {placement.address} needs --executor ray")
        if len(placement.devices) > 1:
            raise UserError(
                f"--executor serial computes on one device, and --device names {len(placement.devices)}: "
                "use --executor devices"
            )
        self._device: str | None = None
        if placement.devices:
            from abench.lm.devices import usable_device

            self._device = usable_device(placement.devices[0])

    def run(self, plan: Plan, store: Store, progress: Progress) -> Outcome:
        from abench.runs.runner import run_plan

        return run_plan(
            plan,
            store,
            progress=progress,
            device=self._device,
            checkpoint_seconds=self.placement.checkpoint_seconds,
        )
