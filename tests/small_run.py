"""A run of seconds on the bundled model, and what comes of it."""

from pathlib import Path

from abench.config import load_run
from abench.lm.catalogue import find_model, local_commit
from abench.plugins import find_tasks, get_task
from abench.results.store import Store
from abench.runs.plan import Plan, make_plan
from abench.runs.report_of_plan import write_plan_report
from abench.variants import get_variant

SMALL = {
    "width": (64,),
    "k": (4,),
    "tasks": ("core",),
    "context": 32,
    "training.tokens": 2048,
    "training.batch_size": 512,
    "training.buffer_tokens": 1024,
    "evaluation.limit": 4,
    "evaluation.tokens": 256,
}


def small_plan(**changes: object) -> Plan:
    """The plan of a run of four steps; `changes` by key path, with `__` for a dot."""
    given = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    config = load_run(None, given)
    name, model = find_model(config.model)
    variants = {each: get_variant(each, {}) for each in config.variants}
    tasks = {each: get_task(each, {}, find_tasks()) for each in config.tasks or ()}
    return make_plan(config, name, model, variants, tasks, commit=local_commit(model))


def weights_of(plan: Plan, store: Store) -> dict[str, bytes]:
    """The files of the weights of all SAEs, by label."""
    return {sae.label: store.sae(sae).read("sae_weights.safetensors") for sae in plan.saes}


def data_of(plan: Plan, store: Store) -> str:
    """The data.csv of a report that is written now."""
    written = write_plan_report(plan, store)
    return (Path(written.folder) / "data.csv").read_text(encoding="utf-8")
