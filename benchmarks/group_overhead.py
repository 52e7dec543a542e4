"""Overhead of a group of 6 SAEs beyond its training steps: forward passes, shuffling, checkpoints, and so on.

The steps are timed twice: within the whole training of a group, and alone on batches in memory.
"""

import tempfile
import time
from itertools import islice
from pathlib import Path

from common import machine, table

from abench.config import load_run
from abench.data.activations import ActivationStream
from abench.lm.catalogue import find_model, local_commit
from abench.lm.models import LanguageModel
from abench.plugins import find_tasks, get_task
from abench.progress import Silent
from abench.results.store import Store
from abench.runs.group_training import train_missing
from abench.runs.plan import Plan, make_plan
from abench.tinyworld import MODEL_DIR
from abench.training.trainer import SAETrainer
from abench.variants import SAEShape, get_variant

TOKENS = 409_600


def default_plan() -> Plan:
    config = load_run(None, {"training.tokens": TOKENS})
    name, model = find_model(config.model)
    variants = {each: get_variant(each, {}) for each in config.variants}
    tasks = {"core": get_task("core", {}, find_tasks())}
    return make_plan(config, name, model, variants, tasks, commit=local_commit(model))


def whole_group(plan: Plan, lm: LanguageModel) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "results", create=True)
        started = time.perf_counter()
        train_missing(plan.saes, lm, store, Silent(), device="cpu", checkpoint_seconds=30)
        return time.perf_counter() - started


def pure_steps(plan: Plan, lm: LanguageModel) -> float:
    """Seconds of the steps alone, on the same batches, for each SAE separately."""
    spec = plan.config.training
    stream = ActivationStream(lm, plan.groups[0].site, plan.data, spec, context=plan.model.context)
    batches = [batch.clone() for batch in islice(stream.batches(), spec.steps)]
    seconds = 0.0
    for job in plan.saes:
        trainer = SAETrainer(job.variant, SAEShape(lm.d_model, job.width, job.k), spec, seed=job.seed)
        started = time.perf_counter()
        for batch in batches:
            trainer.train_on(batch)
        seconds += time.perf_counter() - started
    return seconds


def main() -> None:
    plan = default_plan()
    lm = LanguageModel.load(MODEL_DIR, name="tiny", eos_after_documents=True)
    rows = []
    for repetition in range(3):
        pure, whole = pure_steps(plan, lm), whole_group(plan, lm)
        rows.append([repetition + 1, f"{pure:.1f} s", f"{whole:.1f} s", f"{whole / pure:.2f}"])
    print(table(["repetition", "pure steps of 6 SAEs", "the whole group", "ratio"], rows))
    print(f"\n{TOKENS:,} tokens per SAE. {machine()}")


main()
