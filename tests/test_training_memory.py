"""SAEs that do not fit into memory together: trained in halves, with the same weights."""

from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from short_memory import on_gpu
from small_run import small_plan, weights_of

from abench.progress import Lines
from abench.results.store import Store
from abench.runs.plan import Plan
from abench.runs.runner import run_plan
from abench.training.trainer import SAETrainer

REASON = (
    "there is not enough memory (torch tried to allocate 2.50 GiB) to train an SAE of width 64 on batches of "
    "512 activations; batches are not made smaller, because that would change the weights: choose a smaller "
    "width or training.batch_size, or a device with more memory"
)


@pytest.fixture
def plan() -> Plan:
    return small_plan(variants=("topk", "abstopk"), seeds=(0, 1), k=(4,))


def limit(monkeypatch: pytest.MonkeyPatch, most: int, after: int = 0) -> None:
    """Let a training step fail if more than `most` SAEs are in memory, from step `after` on."""
    alive: WeakSet[SAETrainer] = WeakSet()
    train_on, make = SAETrainer.train_on, SAETrainer.__init__

    def made(self: SAETrainer, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        alive.add(self)

    def trained(self: SAETrainer, batch: Any) -> None:
        if len(alive) > most and self.step >= after:
            on_gpu()
        train_on(self, batch)

    monkeypatch.setattr(SAETrainer, "__init__", made)
    monkeypatch.setattr(SAETrainer, "train_on", trained)


@pytest.mark.parametrize("after", [0, 2])
def test_halves_have_the_weights_of_all_together(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    usual, short = (Store.open(tmp_path / name, create=True) for name in ("usual", "short"))
    run_plan(plan, usual)
    limit(monkeypatch, 1, after)
    with (tmp_path / "said").open("w") as said:
        outcome = run_plan(plan, short, progress=Lines(said), checkpoint_seconds=0)
    assert not outcome.failed
    assert weights_of(plan, short) == weights_of(plan, usual)
    lines = (tmp_path / "said").read_text()
    assert lines.count("there is not enough memory (torch tried to allocate 2.50 GiB) to train 4 SAEs") == 1
    assert lines.count("to train 2 SAEs together") == 2


def test_an_sae_that_does_not_fit_by_itself_fails_with_a_sentence(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path / "results", create=True)
    limit(monkeypatch, 0)
    outcome = run_plan(plan, store)
    assert len(outcome.failed) == len(plan.cells)
    for sae in plan.saes:
        record = store.get_sae(sae)
        assert record is not None and record.status == "failed"
        assert record.reason == REASON
    monkeypatch.undo()
    assert not run_plan(plan, store).failed  # nothing is lost: the same command trains them
