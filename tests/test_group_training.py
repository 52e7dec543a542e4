"""The SAEs of a group: each is saved as soon as it is finished, and only by who holds its lease."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from listening import Told
from store_files import cell_file, checkpoint_folder, root_of, sae_folder
from torch import Tensor

from abench.config import load_run
from abench.data.token_rows import Position
from abench.errors import UserError
from abench.lm.catalogue import fetched_commit, find_model
from abench.plugins import find_tasks, get_task
from abench.progress import Silent, Steps
from abench.results.jobs import SAEJob
from abench.results.store import Record, Store
from abench.runs.group_training import train_missing
from abench.runs.plan import Plan, make_plan
from abench.runs.runner import run_plan
from abench.variants import get_variant

BATCH, BLOCK, STEPS = 64, 4, 10


def plan_of(variants: tuple[str, ...], **options: object) -> Plan:
    sizes = {
        "model": "synthetic",
        "variants": variants,
        "tasks": ("recovery",),
        "k": (4,),
        "width": (32,),
        "seeds": (0,),
        "training.tokens": STEPS * BATCH,
        "training.batch_size": BATCH,
        "training.buffer_tokens": BLOCK * BATCH,
        "training.calibration_tokens": 8 * BATCH,
        "evaluation.tokens": 1024,
    }
    config = load_run(None, sizes | options)
    name, model = find_model(config.model)
    tasks = {task: get_task(task, {}, find_tasks()) for task in config.tasks or ()}
    each = {variant: get_variant(variant) for variant in variants}
    return make_plan(config, name, model, each, tasks, commit=fetched_commit(model))


@dataclass
class Finite:
    """Activations that end; if `broken`, with an error."""

    d_model: int
    tokens: int
    broken: bool = False
    device = torch.device("cpu")

    def reader(self, seed: int, at: Position) -> "Reader":
        values = torch.randn(self.tokens, self.d_model, generator=torch.Generator().manual_seed(seed))
        return Reader(values, at, self.broken)


@dataclass
class Reader:
    values: Tensor
    position: Position
    broken: bool

    def read(self) -> Tensor | None:
        start = self.position.document
        part = self.values[start : start + BATCH]
        if self.broken and len(part) == 0:
            raise UserError("the disk is gone")
        self.position = Position(start + len(part))
        return part if len(part) else None


def train(plan: Plan, store: Store, tokens: int, *, broken: bool = False) -> Told:
    finite = Finite(plan.model.config.d_model, tokens, broken)
    told = Told()
    train_missing(plan.saes, finite, store, told, device="cpu", checkpoint_seconds=30)
    return told


def saes(store: Store, plan: Plan) -> dict[str, str]:
    found = {job.variant.name: store.get_sae(job) for job in plan.saes}
    return {name: record.status for name, record in found.items() if record is not None}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "results", create=True)


def test_calibration_takes_what_is_left_and_the_first_block_where_the_stream_ends(store: Store) -> None:
    plan = plan_of(("batchtopk", "topk"))
    told = train(plan, store, (STEPS + 2) * BATCH)  # two batches are left, and a block has four
    assert saes(store, plan) == {"batchtopk": "done", "topk": "done"}
    (said,) = told.said
    assert said.startswith("thresholds are calibrated on 384 of 512 activations: ")


def test_where_nothing_can_be_read_for_calibration_only_those_that_need_it_fail(store: Store) -> None:
    plan = plan_of(("batchtopk", "topk"), **{"training.tokens": 8 * BATCH})
    told = train(plan, store, 8 * BATCH, broken=True)
    assert saes(store, plan) == {"batchtopk": "failed", "topk": "done"}
    (job,) = [job for job in plan.saes if job.variant.name == "batchtopk"]
    record = store.get_sae(job)
    assert record is not None
    assert record.reason == "its threshold cannot be calibrated: the disk is gone"
    assert any("batchtopk" in said and "cannot be calibrated" in said for said in told.said)
    assert_nothing_is_left(store)


def assert_nothing_is_left(store: Store) -> None:
    assert not list(root_of(store).rglob(".*"))
    assert not [path for part in ("leases", "checkpoints") for path in (root_of(store) / part).glob("*")]


# Leases


def take_over(store: Store, job: SAEJob) -> None:
    """Another process takes the work of one that has been silent for long, and ends it."""
    path = root_of(store) / "leases" / f"{job.key}.json"
    os.utime(path, (time.time() - 2 * 86_400,) * 2)
    other = Store.open(root_of(store), create=True)
    with other.claim(job.key) as lease:
        assert lease is not None


@pytest.mark.parametrize("at", [1, STEPS], ids=["before a checkpoint", "before saving"])
def test_who_lost_a_lease_in_training_leaves_that_sae_and_goes_on_with_the_others(
    store: Store, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abench.runs.group_training.CHECKPOINT_SHARE", float("inf"))  # one after every step
    plan = plan_of(("abstopk", "topk"))
    lost, kept = plan.saes
    told = Told(at, lambda: take_over(store, lost))
    finite = Finite(plan.model.config.d_model, 10**4)
    train_missing(plan.saes, finite, store, told, device="cpu", checkpoint_seconds=0)
    assert store.get_sae(lost) is None
    assert store.get_sae(kept) is not None
    assert [said for said in told.said if "another process has taken over" in said] == [
        f"{lost.label}: another process has taken over because this one did not respond for too long; "
        "its result is used"
    ]
    assert not sae_folder(store, lost).exists()
    assert not list((root_of(store) / "saes").rglob(".*"))
    # They are the other's now, which goes on from them.
    checkpoints = {lost.key, f".{lost.key}.before"} if at == STEPS else set()
    assert {path.name for path in (root_of(store) / "checkpoints").iterdir()} == checkpoints


def test_a_failure_is_not_recorded_by_who_lost_the_lease(store: Store) -> None:
    plan = plan_of(("batchtopk",), **{"training.tokens": 8 * BATCH})
    (job,) = plan.saes
    told = Told(8, lambda: take_over(store, job))
    finite = Finite(plan.model.config.d_model, 8 * BATCH, broken=True)
    train_missing(plan.saes, finite, store, told, device="cpu", checkpoint_seconds=30)
    assert store.get_sae(job) is None
    assert "another process has taken over" in told.said[-1]


def test_a_cell_whose_lease_was_lost_while_it_was_scored_is_the_other_s(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(("topk",))
    (cell,) = plan.cells
    score, marks = type(cell.task).score, []

    def scored(self: object, *args: object) -> object:
        result = score(self, *args)  # type: ignore[arg-type]
        if not marks:
            path = root_of(store) / "leases" / f"{cell.key}.json"
            os.utime(path, (time.time() - 2 * 86_400,) * 2)
            with store.claim(cell.key):
                marks.append(True)
        return result

    monkeypatch.setattr(type(cell.task), "score", scored)
    told = Told()
    outcome = run_plan(plan, store, progress=told)
    assert outcome.computed == 1
    assert any(cell.label in said and "another process has taken over" in said for said in told.said)
    assert store.get(cell) is not None


def test_a_cell_that_another_process_holds_is_not_shown_as_scored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abench.runs.runner.WAIT_SECONDS", 0)
    plan = plan_of(("topk",))
    (cell,) = plan.cells
    train(plan, store, 10**4)
    shown: list[int] = []

    with ExitStack() as elsewhere:

        class Waits(Told):
            def say(self, message: str) -> None:
                super().say(message)
                if message.startswith("waiting"):
                    assert not shown
                    elsewhere.close()

            @contextmanager
            def steps(self, title: str, total: int, done: int = 0) -> Iterator[Steps]:
                yield self if title.startswith("scoring") else Silent()

            def advance_to(self, done: int, detail: str = "", *, left: float | None = None) -> None:
                shown.append(done)

        elsewhere.enter_context(Store.open(root_of(store), create=True).claim(cell.key))
        told = Waits()
        run_plan(plan, store, progress=told)
    assert [said.partition(" held by ")[0] for said in told.said if "waiting" in said] == [
        "waiting for 1 cell"
    ]
    assert shown == [1]
    assert store.get(cell) is not None


# Leftovers


def test_what_dead_processes_left_is_removed_and_nothing_else(store: Store) -> None:
    plan = plan_of(("topk",))
    (job,), (cell,) = plan.saes, plan.cells
    train(plan, store, 10**4)
    store.put(cell, Record(key=cell.key, status="done", labels=cell.labels(), metrics=[]))
    before = set(root_of(store).rglob("*"))
    dead = "d" * 32
    killed = {"host": "elsewhere", "pid": 1, "token": dead}
    places = [
        cell_file(store, cell).with_name(f".{cell_file(store, cell).name}.{dead}"),
        sae_folder(store, job).with_name(f".{sae_folder(store, job).name}.{dead}") / "half",
        root_of(store) / "checkpoints" / f".{'e' * 64}.{dead}" / "state.json",
        root_of(store) / "checkpoints" / job.key / "state.json",
        root_of(store) / "checkpoints" / f".{job.key}.old" / "state.json",
        root_of(store) / "leases" / f".{cell.key}.json.{dead}",
        root_of(store) / "leases" / ".takeover",
        root_of(store) / "leases" / f"{cell.key}.json",
        root_of(store) / "kept" / "ab" / f".abc.json.{dead}",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(killed))
        os.utime(place, (0, 0))
    with store.claim("f" * 64) as lease:
        assert lease is not None
        used = [
            store.draft_folder(job, lease),
            root_of(store) / "checkpoints" / ("f" * 64),
            root_of(store) / "kept" / "ab" / f".new.json.{dead}",
        ]
        for path in used[1:]:
            path.mkdir()
        store.clear_leftovers()
        left = {path for path in root_of(store).rglob("*") if path.is_file() or path in used} - before
        assert left == {*used, root_of(store) / "leases" / f"{'f' * 64}.json"}
    for path in used:
        path.rmdir()
    assert "no sign of life" in store.notices[0]
    assert store.get_sae(job) is not None and store.get(cell) is not None


def test_the_checkpoint_of_an_sae_in_training_is_not_removed(store: Store) -> None:
    plan = plan_of(("topk",))
    (job,) = plan.saes
    train(plan, store, 10**4)
    place = checkpoint_folder(store, job)
    place.mkdir(parents=True)
    with Store.open(root_of(store), create=True).claim(job.key):
        store.clear_leftovers()
        assert place.exists()
    store.clear_leftovers()
    assert not place.exists()
