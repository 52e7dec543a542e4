"""Runs on a real Ray cluster of two nodes on this machine, of which one dies: the bits of a serial run."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
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
DEADLINE_SECONDS = 120.0
"""After which a run that does not go on has failed."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
QUICK = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
"""A cluster that notices the death of a node within seconds, but does not take a busy node for a dead one."""


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
    """A cluster whose head has no CPU, so that only the nodes that a test adds can compute.

    Its folder is outside the environment of the tests, which may hold the usual temporary folder: there Ray's
    workers refuse to start. The folder's name is short, because sockets are in it.
    """
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 80_000_000, "memory": 8_000_000_000}
    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "_system_config": QUICK}
    with (
        TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        made = Cluster(initialize_head=True, head_node_args={**head, **memory})
        made.of_node = {"num_cpus": 1, "num_gpus": 0, **memory}
        try:
            made.add_node(**made.of_node)
            yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def serial(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, bytes], str]:
    plan = small_plan(layers=(1, 2), variants=("abstopk", "topk"), training__tokens=8192)
    store = Store.open(tmp_path_factory.mktemp("serial"), create=True)
    run_plan(plan, store)
    return plan, weights_of(plan, store), data_of(plan, store)


class Run:
    """A run on the cluster."""

    def __init__(self, stack: ExitStack, cluster: Any, root: Path) -> None:
        self._cluster, self.root = cluster, root
        options = (*RUN, "--ray-address", cluster.address, "--results", root)
        self.process = stack.enter_context(running(*options))

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """The first true value of a condition that the run makes true."""
        ends = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < ends:
            if found := condition():
                return found
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.02)
        self.process.kill()
        return pytest.fail(f"{self.process.communicate()[0]}\n\n{state_of(self._cluster)}")

    def end(self) -> str:
        """What the run, which succeeds, has printed."""
        out, _ = self.process.communicate(timeout=DEADLINE_SECONDS)
        assert self.process.returncode == 0, out
        return out


def state_of(cluster: Any) -> str:
    """Which nodes run, and the ends of their logs."""
    nodes = [f"{node.unique_id}: {node.live_processes()}" for node in cluster.list_all_nodes()]
    logs = Path(cluster.head_node.get_session_dir_path()) / "logs"
    files = sorted(each for each in logs.glob("*") if each.is_file() and each.stat().st_size)
    ends = [f"{each.name}:\n{each.read_text(errors='replace')[-1500:]}" for each in files]
    return "\n\n".join([*nodes, *ends])


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


def add_nodes(cluster: Any, wanted: int) -> None:
    while len(cluster.worker_nodes) < wanted:
        cluster.add_node(**cluster.of_node)


def kill_node(run: Run, keys: set[str], cluster: Any) -> None:
    """Kill the node that works on one of these keys."""
    pid, node = run.wait_until(lambda: stopped_holder(run.root, keys, cluster))
    cluster.remove_node(node, allow_graceful=False)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # it was stopped, so it does not notice that its node has gone


def is_serial(plan: Any, weights: dict[str, bytes], data: str, root: Path) -> bool:
    """Whether a results folder holds what the serial run made, and no leases."""
    left = [*(root / "leases").iterdir(), *(root / "drivers").iterdir()]
    same = (root / "reports" / "default" / "data.csv").read_text() == data
    return same and not left and weights_of(plan, Store.open(root, create=False)) == weights


def test_a_node_dies_in_training_and_one_while_scoring(
    cluster: Any, serial: tuple[Any, dict[str, bytes], str], tmp_path: Path
) -> None:
    plan = serial[0]
    add_nodes(cluster, 2)
    with ExitStack() as stack:
        run = Run(stack, cluster, tmp_path / "results")
        kill_node(run, {sae.key for sae in plan.saes}, cluster)
        cluster.add_node(**cluster.of_node)
        kill_node(run, {cell.key for cell in plan.cells}, cluster)
        out = run.end()
    assert is_serial(*serial, run.root)
    assert out.count("has ended (") == 2 and f"{len(plan.cells)} cells computed" in out


def test_a_driver_is_interrupted_and_one_killed(
    cluster: Any, serial: tuple[Any, dict[str, bytes], str], tmp_path: Path
) -> None:
    keys = {each.key for each in (*serial[0].saes, *serial[0].cells)}
    root = tmp_path / "results"
    add_nodes(cluster, 1)
    for ending, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        with ExitStack() as stack:
            run = Run(stack, cluster, root)
            run.wait_until(lambda: any((root / "leases" / f"{key}.json").exists() for key in keys))
            run.process.send_signal(ending)
            assert run.process.wait(60) == status
    with ExitStack() as stack:
        run = Run(stack, cluster, root)
        run.end()
    assert is_serial(*serial, root)


def test_a_node_without_the_model(cluster: Any, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    add_nodes(cluster, 1)
    folder = Path(shutil.copytree(model_folder("llama-3.1-8b"), tmp_path / "llama"))
    text = tmp_path / "text.txt"
    text.write_text("The town has a river. " * 2000)
    data = ("--set", "data.source=file", "--set", f"data.dataset={text}")
    options = ("--model", folder, "--layers", "1", *data, "--ray-address", cluster.address)
    with running(*RUN, *options, "--results", tmp_path / "results") as process:
        while process.stdout is not None and "SAEs at" not in (line := process.stdout.readline()):
            assert line, "the run ends before it has a plan"
        folder.rename(tmp_path / "elsewhere")  # as on a machine that has no such folder
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2 and f"{socket.gethostname()}, process" in out, out
    assert out.count("\n") == 1 and f"{folder.name}' does not exist" in out, out


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
    ("name", "sentence"),
    [
        ("env/tmp", "set RAY_TMPDIR to a folder elsewhere"),
        (100 * "n", "AF_UNIX path length cannot exceed 107 bytes"),
    ],
)
def test_a_temporary_folder_that_ray_cannot_use(name: str, sentence: str, tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        there = {"VIRTUAL_ENV": str(Path(folder, "env")), "RAY_TMPDIR": str(Path(folder, name))}
        command = (sys.executable, "-P", "-m", "abench", *RUN, "--results", str(tmp_path / "results"))
        env = {**os.environ, **there}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    *_, last = done.stderr.splitlines()
    assert done.returncode == 2 and last.startswith("abench: ") and sentence in last, done.stderr
    assert "Traceback" not in done.stderr


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
