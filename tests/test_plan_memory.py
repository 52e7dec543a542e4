"""What must fit into memory: of this machine, or of a cluster's nodes if those compute."""

from pathlib import Path

import pytest
from small_run import small_plan

from abench import UserError
from abench.executors.base import Placement
from abench.executors.on_ray import request_of
from abench.executors.ray_cluster import check_room
from abench.executors.registry import executor_for
from abench.executors.shares import shares_of
from abench.executors.worker import Setup, Worker
from abench.results.drivers import driving
from abench.results.store import Store
from abench.runs import machine_memory
from abench.runs.machine_memory import Limit, available_bytes, limits, main_bytes
from abench.runs.plan import Plan
from abench.runs.plan_memory import largest_sae_bytes, saes_bytes
from abench.runs.planner import RunRequest, plan_run

GIB = 2**30
WIDE = RunRequest(options={"variants": ("topk",), "k": (4,), "width": (10**9,)})


def test_a_plan_that_does_not_fit_here_is_refused_only_if_it_is_computed_here() -> None:
    with pytest.raises(UserError, match=r"needs at least .* GiB of memory and this machine has .* GiB"):
        plan_run(WIDE, fetch=True, say=print)
    assert len(plan_run(WIDE, fetch=True, say=print, here=False).saes) == 1


def test_only_a_cluster_computes_elsewhere() -> None:
    assert executor_for("serial", Placement(("cpu",))).computes_here
    assert executor_for("devices", Placement(("cpu", "cpu"))).computes_here
    pytest.importorskip("ray")
    assert not executor_for("ray", Placement(("cpu",))).computes_here


def wide_plan() -> Plan:
    """Six SAEs of a site, of 1.5 GiB each with Adam's moments."""
    return small_plan(variants=("topk", "abstopk"), seeds=(0, 1, 2), width=(2**19,))


def test_a_worker_asks_for_all_saes_of_a_site_or_for_what_the_largest_node_has() -> None:
    plan = wide_plan()
    assert largest_sae_bytes(plan.saes) == saes_bytes(plan.saes) // 6 == 1.5 * GIB

    def asked(*memory: float) -> float:
        nodes = [{"CPU": 4, "memory": each * GIB} for each in memory]
        request = request_of(plan, [*nodes, {"CPU": 1, "memory": 900 * GIB}], 2, gpus=0)
        check_room(request, nodes, "10.0.0.1:6379")
        return request.memory / GIB

    assert 9 < asked(4, 64) < 10
    assert asked(4, 6) == 6  # the six SAEs are divided
    with pytest.raises(UserError) as raised:
        asked(1, 1.5)
    sentence = str(raised.value)
    assert sentence.startswith(
        "no node of the Ray cluster at 10.0.0.1:6379 has what a worker needs (2 CPUs, 2."
    )
    assert "at most 1.5 GiB of memory per node" in sentence and "\n" not in sentence


def test_shares_hold_the_saes_for_which_there_is_room() -> None:
    plan = wide_plan()
    shares = shares_of(plan, trained=(), workers=1, most=lambda saes: 4 * GIB // largest_sae_bytes(saes))
    assert [len(share.plan.saes) for share in shares if share.trains] == [2, 2, 2]


@pytest.mark.parametrize("room", [None, 5 * GIB])
def test_a_worker_reports_the_memory_that_saes_may_take(tmp_path: Path, room: int | None) -> None:
    store = Store.open(tmp_path / "results", create=True)
    with driving(store, {}) as token:
        worker = Worker(Setup(store.place, token, "cpu", None, 30.0, room=room), lambda _: None)
        found = worker.about().room
    free = available_bytes()
    assert found is not None and free is not None
    assert found == room if room else 0.3 * free < found < 0.9 * free


def test_available_memory_is_part_of_the_machine_s() -> None:
    free, every = available_bytes(), main_bytes()
    assert free is not None and every is not None and 0 < free <= every


def group_of(folder: Path, size: object, used: int, cached: int, version: int) -> None:
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    limit, usage, entry = names.get(version, ("memory.max", "memory.current", "inactive_file"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit).write_text(f"{size}\n")
    (folder / usage).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{entry} {cached}\n")


def test_the_limits_of_control_groups_count_what_cannot_be_freed(tmp_path: Path) -> None:
    of_process = tmp_path / "cgroup"
    of_process.write_text("0::/slurm/job_7/step_0\n")
    root = tmp_path / "groups"
    group_of(root / "slurm", "max", 9 * GIB, 0, 2)
    group_of(root / "slurm/job_7", 8 * GIB, 3 * GIB, GIB, 2)
    group_of(root / "slurm/job_7/step_0", 4 * GIB, GIB, 0, 2)
    assert limits(root, of_process) == [Limit(4 * GIB, GIB), Limit(8 * GIB, 2 * GIB)]


def test_the_first_version_s_limits_are_those_of_its_memory_controller(tmp_path: Path) -> None:
    of_process = tmp_path / "cgroup"
    of_process.write_text("5:cpu,cpuacct:/a\n4:memory:/docker/abc\n0::/\n")
    # In a container, the name from outside does not exist, and the group is the root.
    group_of(tmp_path / "groups/memory", 2 * GIB, GIB, GIB // 2, 1)
    assert limits(tmp_path / "groups", of_process) == [Limit(2 * GIB, GIB // 2)]
    assert limits(tmp_path / "groups", tmp_path / "none") == []


def test_the_smallest_limit_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "limits", lambda: [Limit(3 * GIB, GIB), Limit(2 * GIB, 2 * GIB)])
    assert main_bytes() == 2 * GIB
    assert available_bytes() == 0
