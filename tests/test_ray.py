"""Runs on a real Ray cluster of two nodes on this machine, of which one dies: the bits of a serial run."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from command import Abench, Result, running
from small_run import data_of, small_plan, weights_of

from abench.results.store import Store
from abench.runs.runner import run_plan

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="Ray clusters need POSIX")]

RUN = shlex.split(
    "run --executor ray --layers 1,2 --variants abstopk,topk --width 64 --k 4 --tokens 8192 --limit 4 "
    "--checkpoint-every 0 --tasks core --set context=32 --set training.batch_size=512 "
    "--set training.buffer_tokens=1024 --set evaluation.tokens=256"
)
DEADLINE_SECONDS = 240.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}
"""A cluster that notices the death of a node within seconds."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads in the serial run as on the nodes, which have one CPU each."""
    import torch

    before, threads = {name: os.environ.get(name) for name in ONE_THREAD}, torch.get_num_threads()
    os.environ.update(ONE_THREAD)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def cluster(one_thread: None) -> Iterator[Any]:
    """A cluster whose head has no CPU, so that only the nodes that a test adds can compute."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80_000_000, "memory": 8_000_000_000}
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "_system_config": QUICK}
        | memory,
    )
    made.of_node = {"num_cpus": 1, "num_gpus": 0, **memory}
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def serial(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, bytes], str]:
    plan = small_plan(layers=(1, 2), variants=("abstopk", "topk"), training__tokens=8192)
    store = Store.open(tmp_path_factory.mktemp("serial"), create=True)
    run_plan(plan, store)
    return plan, weights_of(plan, store), data_of(plan, store)


def wait_until(condition: Callable[[], Any]) -> Any:
    ends = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < ends
        time.sleep(0.02)
    return found


def stopped_holder(root: Path, keys: set[str], cluster: Any) -> tuple[int, Any] | None:
    """Stop a process that holds the lease of one of these keys; its id and its node, or None if none does."""
    for key in keys:
        file = root / "leases" / f"{key}.json"
        try:
            pid = int(json.loads(file.read_text())["pid"])
            os.kill(pid, signal.SIGSTOP)
            if file.exists():
                return pid, node_of(pid, cluster)
            os.kill(pid, signal.SIGCONT)
        except (OSError, ValueError):
            continue  # the lease is being taken or has just been returned
    return None


def node_of(pid: int, cluster: Any) -> Any:
    """The node of a worker: its raylet is the worker's parent."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for node in cluster.worker_nodes:
        if parent in {each.process.pid for some in node.all_processes.values() for each in some}:
            return node
    raise AssertionError(f"process {pid} is on no node")


def kill_node(root: Path, keys: set[str], cluster: Any, process: "subprocess.Popen[str]") -> None:
    """Kill the node that works on one of these keys."""
    found = wait_until(lambda: process.poll() is not None or stopped_holder(root, keys, cluster))
    assert found is not True, process.communicate()[0]
    pid, node = found
    cluster.remove_node(node, allow_graceful=False)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # it was stopped, so it does not notice that its node has gone


def test_a_node_dies_in_training_and_one_while_scoring(
    cluster: Any, serial: tuple[Any, dict[str, bytes], str], tmp_path: Path
) -> None:
    plan, weights, data = serial
    for _ in range(2):
        cluster.add_node(**cluster.of_node)
    root = tmp_path / "results"
    with running(*RUN, "--ray-address", cluster.address, "--results", root) as process:
        kill_node(root, {sae.key for sae in plan.saes}, cluster, process)
        cluster.add_node(**cluster.of_node)
        kill_node(root, {cell.key for cell in plan.cells}, cluster, process)
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, out
    store = Store.open(root, create=False)
    assert weights_of(plan, store) == weights
    assert (root / "reports" / "default" / "data.csv").read_text() == data
    assert out.count("has ended (") == 2 and f"{len(plan.cells)} cells computed" in out
    assert not [*(root / "leases").iterdir(), *(root / "drivers").iterdir()]


def refused(abench: Abench, tmp_path: Path, *options: str) -> Result:
    started = time.monotonic()
    result = abench(*RUN, *options, "--results", tmp_path / "results")
    assert result.code == 2 and time.monotonic() - started < 60
    return result


def test_no_cluster_answers(abench: Abench, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = refused(abench, tmp_path, "--ray-address", f"127.0.0.1:{port}")
    assert f"no Ray cluster answers at 127.0.0.1:{port}" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--ray-address", "ray://127.0.0.1:10001"), "client protocol is not supported"),
        (("--ray-address", "nowhere"), "must be HOST:PORT"),
        (("--device", "cuda:1"), "Ray chooses the machine and the GPU"),
    ],
)
def test_a_placement_that_ray_cannot_use(
    options: tuple[str, ...], sentence: str, abench: Abench, tmp_path: Path
) -> None:
    assert sentence in refused(abench, tmp_path, *options).err


@pytest.mark.parametrize(
    ("threads", "options", "sentence"),
    [
        (1, ("--device", "cuda"), "has no GPU: give --device cpu"),
        (64, (), "has what a worker needs (64 CPUs, "),
        # More than this machine has, too, but it is the nodes that compute.
        (1, ("--width", "1000000000"), "at most 7.5 GiB of memory per node"),
    ],
)
def test_a_cluster_without_what_a_worker_needs(
    threads: int, options: tuple[str, ...], sentence: str, cluster: Any, abench: Abench, tmp_path: Path
) -> None:
    import torch

    torch.set_num_threads(threads)
    try:
        result = refused(abench, tmp_path, *options, "--ray-address", cluster.address)
    finally:
        torch.set_num_threads(1)
    assert sentence in result.err
