"""A Ray cluster: one actor per CPU or GPU, on all its machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from abench.errors import UserError
from abench.executors.base import Executor, Placement
from abench.executors.ray_cluster import (
    Request,
    check_address,
    check_room,
    connected,
    gpus_of,
    import_ray,
    nodes_of,
    room_for,
)

if TYPE_CHECKING:
    from abench.progress import Progress
    from abench.results.store import Store
    from abench.runs.outcome import Outcome
    from abench.runs.plan import Plan

_WITHOUT_MODEL = 1 << 29
"""Bytes that a worker needs in addition to the model, SAEs and activations: Python, torch, texts."""


@dataclass(frozen=True)
class _Site:
    """Where workers run on the cluster."""

    device: str
    threads: int
    request: Request


class OnRay(Executor):
    """Compute on a Ray cluster, with one worker per GPU, or per group of CPU threads."""

    name: ClassVar[str] = "ray"
    computes_here: ClassVar[bool] = False

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement)
        if len(placement.devices) > 1 or placement.devices not in ((), ("cpu",), ("cuda",)):
            raise UserError(
                f"--device {','.join(placement.devices)}: Ray chooses the machine and the GPU; with "
                "--executor ray give cpu or cuda"
            )
        import_ray()
        check_address(placement.address)

    def run(self, plan: Plan, store: Store, progress: Progress) -> Outcome:
        from abench.executors.driver import drive
        from abench.executors.pool import Pool
        from abench.executors.ray_pool import RayPool
        from abench.executors.worker import Setup

        with connected(self.placement.address) as cluster:
            ray = cluster.ray
            where = self._where(ray, plan)
            seconds, root = self.placement.checkpoint_seconds, store.place
            plugins = tuple(str(folder.absolute()) for folder in self.placement.plugins)

            def pool(token: str) -> Pool:
                # On a GPU, what is free there decides.
                room = where.request.memory - _base_bytes(plan) if where.device == "cpu" else None
                setup = Setup(root, token, where.device, where.threads, seconds, plugins, room)
                return RayPool(cluster, setup, where.request, progress.say)

            workers = max(1, room_for(where.request, nodes_of(ray)))
            try:
                return drive(plan, store, progress, workers=workers, pool_of=pool)
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"the Ray cluster does not answer any more ({' '.join(str(error).split())[:200]}): run "
                    "the same command again to resume"
                ) from error

    def _where(self, ray: Any, plan: Plan) -> _Site:
        nodes = nodes_of(ray)
        wanted = self.placement.devices[0] if self.placement.devices else None
        address = self.placement.address or "this machine"
        if wanted == "cuda" and not gpus_of(nodes):
            raise UserError(
                f"the Ray cluster at {address} has no GPU: give --device cpu, or add a node with one"
            )
        device = wanted or ("cuda" if gpus_of(nodes) else "cpu")
        threads = _threads(nodes, device)
        request = request_of(plan, nodes, threads, gpus=1 if device == "cuda" else 0)
        check_room(request, nodes, address)
        return _Site(device, threads, request)


def _threads(nodes: list[dict[str, float]], device: str) -> int:
    """Threads of a worker: on CPUs as many as in a serial run, because numbers may depend on them."""
    import torch

    if device == "cpu":
        threads: int = torch.get_num_threads()
        return threads
    # The CPUs of a node, divided among its GPUs.
    return max(1, min(int(n["CPU"] // n["GPU"]) for n in nodes if n.get("GPU") and n.get("CPU")))


def request_of(plan: Plan, nodes: list[dict[str, float]], threads: int, *, gpus: int) -> Request:
    """What a worker needs of a node: memory for all SAEs of a site, or for those that the largest node holds.

    A site whose SAEs do not fit together is divided (`abench.executors.shares`), but one SAE must fit.
    """
    from abench.runs.plan_memory import largest_sae_bytes, saes_bytes

    base = _base_bytes(plan)
    whole = base + max(saes_bytes(group.saes) for group in plan.groups)
    fitting = [node for node in nodes if Request(threads, gpus, 0).fits(node)]
    largest = int(max((node.get("memory", 0) for node in fitting), default=0))
    least = base + largest_sae_bytes(plan.saes)
    return Request(threads, gpus, min(whole, max(least, largest)))


def _base_bytes(plan: Plan) -> int:
    """Main memory of a worker without SAEs, in bytes: the program, the model and shuffled activations."""
    config = plan.model.config
    weights = 12 * config.n_layers * config.d_model**2 * (2 if "16" in plan.model.dtype else 4)
    training = plan.config.training
    buffered = 4 * min(training.buffer_tokens, training.tokens) * config.d_model
    return _WITHOUT_MODEL + weights + buffered
