"""Several devices of this machine: one worker process per device."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from abench.errors import UserError
from abench.executors.base import Executor, Placement

if TYPE_CHECKING:
    from abench.progress import Progress
    from abench.results.store import Store
    from abench.runs.outcome import Outcome
    from abench.runs.plan import Plan


class Devices(Executor):
    """Compute on several devices of this machine, with one process per device."""

    name: ClassVar[str] = "devices"

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement)
        if placement.address is not None:
            raise UserError(f"--ray-address {placement.address} needs --executor ray")
        self._devices = usable_devices(placement.devices)

    def run(self, plan: Plan, store: Store, progress: Progress) -> Outcome:
        from abench.executors.driver import drive
        from abench.executors.pool import Pool
        from abench.executors.processes import Processes
        from abench.executors.worker import Setup

        titles = _titles(self._devices)
        threads = _threads(self._devices)

        def pool(token: str) -> Pool:
            placement, root = self.placement, store.place
            plugins = tuple(str(folder.absolute()) for folder in placement.plugins)
            return Processes(
                {
                    title: Setup(root, token, device, threads, placement.checkpoint_seconds, plugins)
                    for title, device in titles.items()
                }
            )

        return drive(plan, store, progress, workers=len(titles), pool_of=pool)


def usable_devices(asked: tuple[str, ...]) -> tuple[str, ...]:
    """The devices on which a run can be computed side by side; all GPUs if none is named.

    Raises UserError for one that this machine lacks, for GPUs that are named twice and for different kinds.
    """
    from abench.lm.devices import usable_device

    if not asked:
        import torch

        asked = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) or ("cpu",)
    # Several processes may share the CPU; `cuda` alone is the first GPU.
    devices = tuple("cuda:0" if device == "cuda" and len(asked) > 1 else device for device in asked)
    kinds = list(dict.fromkeys(device.partition(":")[0] for device in devices))
    if len(kinds) > 1:
        raise UserError(
            f"--device names different kinds of devices ({' and '.join(kinds)}), whose numbers differ: name "
            "devices of one kind"
        )
    twice = [device for device, times in Counter(devices).items() if times > 1 and device != "cpu"]
    if twice:
        raise UserError(f"--device names {twice[0]} twice: name each GPU once")
    return tuple(map(usable_device, devices))


def _titles(devices: tuple[str, ...]) -> dict[str, str]:
    """A name for the user of each device: the device itself, with a number if it is named several times."""
    if len(set(devices)) == len(devices):
        return {device: device for device in devices}
    return {f"{device} ({number})": device for number, device in enumerate(devices, 1)}


def _threads(devices: tuple[str, ...]) -> int:
    """Threads of each process: on the CPU as many as in a serial run, because numbers may depend on them."""
    import torch

    threads: int = torch.get_num_threads()
    return threads if devices[0] == "cpu" else max(1, threads // len(devices))
