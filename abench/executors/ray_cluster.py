"""Connecting to a Ray cluster, within seconds and without its output, and what its nodes have."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from abench.errors import UserError

SECONDS_TO_ANSWER = 5.0
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
"""Read by ray when it is imported: no reports to its makers, no advice on the terminal."""


@dataclass(frozen=True)
class Request:
    """What one worker takes of a node."""

    cpus: int
    gpus: int
    memory: int
    """Bytes of main memory."""

    def fits(self, node: Mapping[str, float]) -> bool:
        """Whether a node with these resources can hold the worker."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return all(node.get(name, 0) >= amount for name, amount in wanted.items())

    def __str__(self) -> str:
        gpu = [f"{self.gpus} GPU"] if self.gpus else []
        return ", ".join([f"{self.cpus} CPUs", *gpu, f"{self.memory / 2**30:.1f} GiB of memory"])


@dataclass(frozen=True)
class Connected:
    """A cluster that this process belongs to."""

    ray: Any
    """The package."""
    logs: Path
    """The folder of this machine's logs."""


def import_ray() -> Any:
    """The package ray. Raises UserError if it is not installed."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            'the executor ray needs the package ray, which is not installed: pip install "abench[ray]"'
        ) from error
    return ray


def check_address(address: str | None) -> None:
    """Raise UserError, within seconds, if nothing answers at the address of a cluster."""
    if address is None or address == "auto":
        return
    if "://" in address:
        raise UserError(
            f"--ray-address {address}: Ray's client protocol is not supported, because the process that "
            "starts a run reads the results folder; start it on a machine of the cluster and give "
            "HOST:PORT (6379)"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray-address {address} must be HOST:PORT, e.g. 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}): check the address, or start one with "
            "`ray start --head`"
        ) from error


@contextmanager
def connected(address: str | None) -> Iterator[Connected]:
    """A cluster; without an address that of RAY_ADDRESS, or one started here.

    Raises UserError if this is not possible.
    """
    ray = import_ray()
    if address in (None, "auto") and not os.environ.get("RAY_ADDRESS"):
        # Before the start, which would wait for ever.
        _check_folder(Path(os.environ.get("RAY_TMPDIR") or gettempdir()))
    try:
        # Workers import from the folder in which ray.init is called: from an empty one, so that they import
        # what is installed and not, say, the checkout that the driver was started in.
        with TemporaryDirectory() as empty, chdir(empty):
            about = ray.init(
                address=address, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL"
            )
    except (OSError, RuntimeError, ValueError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        first = " ".join(str(error).split())[:300]
        raise UserError(f"cannot use the Ray cluster at {where}: {first}") from error
    try:
        session = Path(about.address_info["session_dir"])
        _check_folder(session.parent)
        yield Connected(ray, session / "logs")
    finally:
        ray.shutdown()


def _check_folder(folder: Path) -> None:
    """Raise UserError if Ray's workers would refuse the folder of their sockets and logs when they start.

    Ray says so only in the logs of the workers, which it then starts again and again.
    """
    environment = os.environ.get("VIRTUAL_ENV")
    if environment and folder.resolve().is_relative_to(Path(environment).resolve()):
        raise UserError(
            f"Ray's temporary folder {folder} is inside the virtual environment {environment}, where Ray's "
            "workers refuse to start: set RAY_TMPDIR to a folder elsewhere, e.g. /tmp (and start the cluster "
            "again, if it runs already)"
        )


def nodes_of(ray: Any) -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def gpus_of(nodes: list[dict[str, float]]) -> int:
    """The number of GPUs of a cluster."""
    return int(sum(node.get("GPU", 0) for node in nodes))


def room_for(request: Request, nodes: list[dict[str, float]]) -> int:
    """The number of workers that a cluster can hold at the same time."""
    wanted = {"CPU": request.cpus, "GPU": request.gpus, "memory": request.memory}
    return sum(
        min(int(node.get(name, 0) // amount) for name, amount in wanted.items() if amount) for node in nodes
    )


def check_room(request: Request, nodes: list[dict[str, float]], address: str) -> None:
    """Raise UserError if no node can hold a worker."""
    if any(request.fits(node) for node in nodes):
        return
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    largest = max((node.get("memory", 0) for node in nodes), default=0) / 2**30
    raise UserError(
        f"no node of the Ray cluster at {address} has what a worker needs ({request}); it has {cpus} CPUs "
        f"and {gpus_of(nodes)} GPUs on {len(nodes)} nodes, at most "
        f"{largest:.1f} GiB of memory per node: choose another --device, set OMP_NUM_THREADS to fewer "
        "threads, or add a node"
    )
