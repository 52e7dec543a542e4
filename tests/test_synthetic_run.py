"""Runs on synthetic models through the real runner: keys, skips, resuming, details."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from command import Abench
from listening import Told
from store_files import root_of

from abench.config import load_run
from abench.data.activations import ActivationSource
from abench.data.synthetic import SyntheticModel
from abench.lm.catalogue import fetched_commit, find_model
from abench.plugins import find_tasks, get_task
from abench.results.store import Record, Store
from abench.runs.plan import Plan, make_plan
from abench.runs.runner import run_plan
from abench.storage.keys import difference
from abench.task import ScoreError, parted
from abench.variants import get_variant

SMALL = {
    "training.tokens": 40 * 256,
    "training.batch_size": 256,
    "training.buffer_tokens": 1024,
    "evaluation.tokens": 4096,
    "seeds": (0,),
}


def plan_of(source: str | None, **options: object) -> Plan:
    config = load_run(source, SMALL | options)
    name, model = find_model(config.model)
    tasks = {task: get_task(task, {}, find_tasks()) for task in config.tasks or model.tasks}
    variants = {each: get_variant(each) for each in config.variants}
    return make_plan(config, name, model, variants, tasks, commit=fetched_commit(model))


def small_plan() -> Plan:
    return plan_of(None, model="synthetic", variants=("abstopk", "topk"), tasks=("core", "recovery"))


def records(plan: Plan, store: Store) -> dict[str, Record]:
    found = {f"{cell.sae.label} {cell.task.name}": store.get(cell) for cell in plan.cells}
    return {name: record for name, record in found.items() if record is not None}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("synthetic") / "results", create=True)
    run_plan(small_plan(), store)
    return store


def test_recovery_is_scored_and_core_is_skipped_with_its_reason(finished: Store) -> None:
    found = records(small_plan(), finished)
    assert {name.split()[1]: record.status for name, record in found.items()} == {
        "core": "skipped",
        "recovery": "done",
    }
    assert {r.reason for r in found.values() if r.status == "skipped"} == {
        "it needs a language model: synthetic activations have no text or predictions"
    }
    for record in found.values():
        assert record.labels["site"] == "activations"
        if record.status == "done":
            assert record.scores["true_l0"] == pytest.approx(8, rel=0.05)
            assert record.details == {}


def test_an_interrupted_run_ends_with_the_same_bits(
    finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abench.runs.group_training.CHECKPOINT_SHARE", float("inf"))  # one after every step
    store = Store.open(tmp_path / "results", create=True)
    plan = small_plan()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, store, progress=Told(at=23), checkpoint_seconds=0.0)
    states = [json.loads(file.read_text()) for file in root_of(store).glob("checkpoints/[!.]*/state.json")]
    assert [state["step"] for state in states] == [22, 22]  # in the sixth block of four batches
    assert [state["stream"]["position"] for state in states] == [[5, 0, 0], [5, 0, 0]]
    run_plan(plan, store)
    scores = {name: record.scores for name, record in records(plan, store).items()}
    assert scores == {name: record.scores for name, record in records(plan, finished).items()}


def test_every_part_of_the_description_is_in_the_keys() -> None:
    plan = small_plan()
    sae = plan.saes[0]
    synthetic = sae.model.config.synthetic
    assert synthetic is not None
    config = sae.model.config.model_copy(update={"synthetic": synthetic.model_copy(update={"noise": 0.5})})
    other = replace(sae, model=replace(sae.model, config=config, commit=fetched_commit(config)))
    paths = {path for path, _, _ in difference(sae.spec(), other.spec())}
    assert paths == {"model.commit", "model.synthetic.noise"}
    assert set(sae.spec()["model"]["synthetic"]) == {"version", "d_model", *type(synthetic).model_fields}


def test_keys_of_language_models_know_nothing_of_it() -> None:
    assert "synthetic" not in plan_of(None, model="tiny").saes[0].spec()["model"]


def test_the_toy_run_keeps_what_its_figure_needs(tmp_path: Path) -> None:
    plan = plan_of("toy")
    store = Store.open(tmp_path / "results", create=True)
    run_plan(plan, store)
    found = records(plan, store)
    assert {record.labels["variant"] for record in found.values()} == {"abstopk", "topk"}
    for record in found.values():
        plane = record.details["plane"]
        places = {row["name"]: (round(row["x"], 4), round(row["y"], 4)) for row in plane["true"]}
        assert places["male"] == (1, 0)
        assert places["female"] == (-1, 0)
        assert places["people"] == (0, 1)
        assert len(places) == 9
        poles = [(row["latent"], row["sign"]) for row in plane["found"]]
        assert len(set(poles)) == len(poles)
        assert all(0 < row["share"] <= 1 for row in plane["found"])
        assert all(row["x"] ** 2 + row["y"] ** 2 <= 1.0001 for row in plane["found"])


def test_details_have_to_be_plain_json() -> None:
    task = get_task("recovery", {}, find_tasks())
    assert parted(task, {"a": 1.0}) == ({"a": 1.0}, {})
    assert parted(task, ({"a": 1.0}, {"rows": (1, 2)})) == ({"a": 1.0}, {"rows": [1, 2]})
    for details in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(ScoreError, match="task recovery returned details that are not plain JSON"):
            parted(task, ({"a": 1.0}, details))


def test_a_synthetic_model_is_an_activation_source() -> None:
    config = find_model("synthetic")[1]
    assert config.synthetic is not None
    source: ActivationSource = SyntheticModel(config.synthetic, config.d_model, name="s")
    assert source.d_model == 64


def test_a_run_that_names_no_task_takes_those_of_the_kind_of_model(abench: Abench) -> None:
    rows = {}
    for model in ("synthetic", "tiny"):
        options = ["--model", model, "--variants", "topk", "--k", "4", "--dry-run", "--results", "nowhere"]
        rows[model, False] = abench("run", *options).out
        rows[model, True] = abench("run", *options, "--tasks", "all").out
    tasks = {asked: set(re.findall(r"\b(core|recovery)\b", shown)) for asked, shown in rows.items()}
    assert tasks == {
        ("synthetic", False): {"recovery"},
        ("synthetic", True): {"recovery"},
        ("tiny", False): {"core"},
        ("tiny", True): {"core"},
    }
