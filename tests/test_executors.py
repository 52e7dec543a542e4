"""Several workers on one results folder: the same bits as a serial run, whoever ends in between."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Abench, running
from small_run import SMALL, data_of, small_plan, weights_of
from store_files import root_of

from abench import run as abench_run
from abench.errors import UserError
from abench.executors.base import Placement
from abench.executors.registry import executor_for
from abench.executors.schedule import MOST_ATTEMPTS, Schedule
from abench.executors.shares import Share, shares_of
from abench.executors.worker import facts, versions_complaint
from abench.progress import Silent, Steps
from abench.results.drivers import check_shared, different_versions, driving
from abench.results.store import Store
from abench.runs.plan import Plan
from abench.runs.runner import run_plan

TWO_SITES = {"layers": (1, 2), "variants": ("abstopk", "topk")}


class Listening(Silent):
    """Keeps what is said, and the titles of all bars; `react` is called with each."""

    def __init__(self, react: Callable[[str], None] = lambda _: None) -> None:
        self.said: list[str] = []
        self.titles: list[str] = []
        self._react = react

    def say(self, message: str) -> None:
        self.said.append(message)
        self._react(message)

    @contextmanager
    def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
        self.titles.append(title)
        self._react(title)
        yield self


def all_fit(saes: object) -> int:
    return len(saes)  # type: ignore[arg-type]


def test_a_site_is_one_share_while_there_are_enough_sites() -> None:
    plan = small_plan(**TWO_SITES, seeds=(0, 1), tasks=("core", "sparse_probing"))
    shares = shares_of(plan, trained=(), workers=2, most=all_fit)
    assert [(share.trains, len(share.plan.saes)) for share in shares] == [(True, 4)] * 2 + [(False, 4)] * 4
    assert [share.after for share in shares[2:]] == [{0}, {0}, {1}, {1}]
    assert sorted(c.key for s in shares[2:] for c in s.plan.cells) == sorted(c.key for c in plan.cells)


@pytest.mark.parametrize(
    ("workers", "most", "sizes"), [(4, 9, [2, 2, 2, 2]), (1, 1, [1] * 8), (3, 9, [2] * 4)]
)
def test_saes_of_a_site_are_divided(workers: int, most: int, sizes: list[int]) -> None:
    plan = small_plan(**TWO_SITES, seeds=(0, 1))
    shares = [s for s in shares_of(plan, trained=(), workers=workers, most=lambda _: most) if s.trains]
    assert [len(share.plan.saes) for share in shares] == sizes
    assert [sae for share in shares for sae in share.plan.saes] == list(plan.saes)


def test_what_is_trained_is_only_scored() -> None:
    plan = small_plan(**TWO_SITES)
    shares = shares_of(plan, trained={sae.key for sae in plan.saes}, workers=2, most=all_fit)
    assert [(share.trains, share.after) for share in shares] == [(False, frozenset())] * 2


def test_a_share_that_ends_its_workers_is_given_up_and_the_others_go_on() -> None:
    schedule = Schedule(shares_of(small_plan(**TWO_SITES), trained=(), workers=2, most=all_fit))
    for _ in range(MOST_ATTEMPTS):
        bad = schedule.next(None)
        assert bad is not None and bad.number == 0
        schedule.lose(bad, "by signal SIGKILL")
    done: list[Share] = []
    while (share := schedule.next("blocks.2.hook_resid_post")) is not None:
        schedule.finish(share)
        done.append(share)
    assert [(share.site, share.trains) for share in done] == [
        ("blocks.2.hook_resid_post", True),
        ("blocks.2.hook_resid_post", False),
    ]
    assert not schedule.is_open and list(schedule.given_up) == [0]


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, dict[str, bytes], str]:
    plan = small_plan(**TWO_SITES, training__tokens=8192)
    store = Store.open(tmp_path_factory.mktemp("serial"), create=True)
    run_plan(plan, store)
    return plan, weights_of(plan, store), data_of(plan, store)


def same_as(serial: tuple[Plan, dict[str, bytes], str], store: Store) -> bool:
    plan, weights, data = serial
    return weights_of(plan, store) == weights and data_of(plan, store) == data


def two_processes() -> Placement:
    return Placement(devices=("cpu", "cpu"), checkpoint_seconds=0.0)


@pytest.mark.slow
def test_two_processes_give_the_bits_of_a_serial_run_though_one_is_killed(
    serial: tuple[Plan, dict[str, bytes], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = serial[0]
    store = Store.open(tmp_path / "results", create=True)
    killed: list[int] = []
    monkeypatch.setattr("abench.executors.driver.SECONDS_TO_START", 0.0)

    def kill_who_trains(title: str) -> None:
        if ": training" in title and not killed:
            killed.append(wait_until(lambda: holder(store, {sae.key for sae in plan.saes})))
            os.kill(killed[0], signal.SIGKILL)

    progress = Listening(kill_who_trains)
    outcome = executor_for(None, two_processes()).run(plan, store, progress)
    assert killed and same_as(serial, store)
    assert (outcome.computed, outcome.cached, outcome.failed) == (len(plan.cells), 0, [])
    assert any("has ended (by signal SIGKILL)" in sentence for sentence in progress.said)
    assert progress.said[0] == "no worker has started after 0 s: still waiting"
    assert {title[:7] for title in progress.titles if "training" in title} == {"cpu (1)", "cpu (2)"}
    assert not [*(tmp_path / "results" / "leases").iterdir(), *(tmp_path / "results" / "drivers").iterdir()]


def holder(store: Store, keys: set[str]) -> int | None:
    """The process id of a worker that holds the lease of one of these keys; None if none does."""
    for key in keys:
        with suppress(OSError, ValueError):
            return int(json.loads((root_of(store) / "leases" / f"{key}.json").read_text())["pid"])
    return None


PICKY = '''
from typing import Any, ClassVar
from abench import LanguageModel, SAE, Context, Metric, Scores, Task

class Picky(Task):
    """Fails at one site."""

    name: ClassVar[str] = "picky"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("sum", None, "a sum"),)

    def score(self, sae: SAE, prepared: Any, lm: LanguageModel, ctx: Context) -> Scores:
        if ctx.site.startswith("blocks.1."):
            raise ValueError("not this one")
        return {"sum": float(sae.W_dec.sum())}
'''


@pytest.mark.slow
def test_a_cell_that_fails_in_a_worker_is_tried_once(abench: Abench, tmp_path: Path) -> None:
    plugins, results = tmp_path / "plugins", tmp_path / "results"
    plugins.mkdir()
    (plugins / "picky.py").write_text(PICKY)
    own = ("--tasks", "picky", "--plugins", plugins, "--results", results)
    options = (*SMALL_RUN, *own, *ONE_WORKER)
    result = abench(*options)
    assert result.code == 3, result.err
    assert result.err.count("picky-native failed: ValueError: not this one") == 2
    assert "2 cells computed, 0 from the results folder, 2 failed" in result.out


@pytest.mark.slow
def test_a_run_as_a_function_on_a_device(
    serial: tuple[Plan, dict[str, bytes], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration: Any = SMALL | TWO_SITES | {"training.tokens": 8192}
    run = partial(abench_run, results=tmp_path / "results", **configuration)
    for placement, sentence in (
        ({"device": ["cpu", "cpu"], "executor": "serial"}, "use --executor devices"),
        ({"device": "cpu,cuda:0"}, "different kinds of devices"),
        ({"ray_address": "1.2.3.4:6379"}, "needs --executor ray"),
    ):
        with pytest.raises(UserError, match=sentence):
            run(**placement)
    assert not (tmp_path / "results").exists()
    assert not run(executor="devices", device="cpu").failed
    assert "cpu: training 2 SAEs at" in capsys.readouterr().err
    assert same_as(serial, Store.open(tmp_path / "results", create=False))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="there is no list of processes here")
def test_ctrl_c_and_a_killed_driver_leave_a_folder_that_resumes(
    serial: tuple[Plan, dict[str, bytes], str], tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "results", create=True)
    for ending, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        with running(*COMMAND, "--results", root_of(store)) as process:
            worker = wait_until(lambda: holder(store, {sae.key for sae in serial[0].saes}), process)
            process.send_signal(ending)
            assert process.wait(60) == status
        wait_until(lambda worker=worker: not Path(f"/proc/{worker}").exists())
    outcome = run_plan(serial[0], store)  # a driver would start more processes for the same
    assert outcome.computed and same_as(serial, store)


SMALL_RUN = shlex.split(
    "run --layers 1,2 --variants abstopk,topk --width 64 --k 4 --tokens 8192 --limit 4 --checkpoint-every 0 "
    "--set context=32 --set training.batch_size=512 --set training.buffer_tokens=1024 --set "
    "evaluation.tokens=256"
)
ONE_WORKER = ("--executor", "devices", "--device", "cpu")
COMMAND = (*SMALL_RUN, "--tasks", "core", *ONE_WORKER)
"""The run of `serial` on the command line."""


def wait_until(
    condition: Callable[[], Any], process: "subprocess.Popen[str] | None" = None, seconds: float = 120.0
) -> Any:
    """What the condition gives once it is true; fails at once if the process that must make it true ends."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < ends
        time.sleep(0.02)
    return found


def test_a_folder_that_is_not_shared_is_found_by_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abench.results.drivers._SECONDS_TO_APPEAR", 0.1)
    here, there = (Store.open(tmp_path / name, create=True) for name in ("here", "there"))
    with driving(here, {"torch": "2.9"}) as token:
        check_shared(root_of(here), token, "node-7")
        with pytest.raises(UserError, match="there is not the folder of this run on node-7: choose one with"):
            check_shared(root_of(there), token, "node-7")
        with pytest.raises(UserError, match="nowhere does not exist on node-7"):
            check_shared(tmp_path / "nowhere", token, "node-7")


def test_two_drivers_with_different_versions(tmp_path: Path) -> None:
    store = Store.open(tmp_path, create=True)
    with driving(store, {"torch": "2.9", "abench": "1"}):
        with (
            pytest.raises(UserError, match=r"other versions of packages \(torch 2.8 here and 2.9 there\)"),
            driving(Store.open(tmp_path, create=False), {"torch": "2.8", "abench": "1"}),
        ):
            pass
        with driving(Store.open(tmp_path, create=False), {"torch": "2.9", "abench": "1"}):
            pass
    with driving(store, {"torch": "2.8"}):
        assert len(list((tmp_path / "drivers").iterdir())) == 1
    assert different_versions({"torch": "1"}, {"torch": "1"}) is None
    assert different_versions({"torch": "1"}, {}) == "torch 1 here and none there"


def test_a_worker_with_other_packages_is_refused_with_both_versions() -> None:
    ours = facts()
    assert {"abench", "torch", "transformers", "abench's source"} <= ours.keys()
    assert versions_complaint("node-7", ours) is None
    complaint = versions_complaint("node-7", ours | {"torch": "1.0"})
    assert complaint is not None
    assert (
        f"the worker on node-7 has other versions of packages (torch {ours['torch']} here and 1.0"
        in complaint
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--device", "cuda:0,cpu"), "different kinds of devices (cuda and cpu)"),
        (("--device", "cuda:0,cuda"), "names cuda:0 twice"),
        (("--device", "cpu,cpu", "--executor", "serial"), "use --executor devices"),
        (("--executor", "seriel"), "did you mean 'serial'?"),
        (("--ray-address", "1.2.3.4:6379"), "--ray-address 1.2.3.4:6379 needs --executor ray"),
    ],
)
def test_a_placement_that_cannot_be_used(
    options: tuple[str, ...], sentence: str, abench: Abench, tmp_path: Path
) -> None:
    result = abench("run", *options, "--results", tmp_path / "results")
    assert result.code == 2 and sentence in result.err and result.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_devices_that_this_machine_lacks(abench: Abench, tmp_path: Path) -> None:
    result = abench("run", "--device", "cuda:0,cuda:7", "--results", tmp_path / "results")
    assert result.code == 2 and "device 'cuda:0' cannot be used: torch finds no cuda device" in result.err
