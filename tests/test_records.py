"""What is written into records is read back, whatever the SAE was trained on."""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest
from command import Abench
from store_files import root_of, sae_folder

from abench.config import EvaluationSpec, ModelConfig, TrainingSpec, load_run
from abench.errors import UserError
from abench.lm.catalogue import find_model, local_commit, recorded
from abench.plugins import find_tasks, get_task
from abench.results.finding import find_sae
from abench.results.recorded import recorded_data, text_place
from abench.results.store import Record, SAERecord, Store
from abench.runs.inputs import inputs_of
from abench.runs.plan import Plan, make_plan
from abench.tinyworld import World
from abench.variants import get_variant

SIZES = {
    "training.batch_size": 512,
    "training.buffer_tokens": 1024,
    "evaluation.tokens": 512,
    "context": 32,
    "data.held_out_documents": 200,
}
FEW = ("--tokens", "512")


def write_texts(file: Path, number: int = 2000) -> Path:
    lines = (json.dumps({"text": text}) for text in islice(World().texts("train"), number))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def plan_on(source: str, folder: Path) -> Plan:
    """The plan of a run on this source of text, or on the synthetic model."""
    options: dict[str, object] = {"variants": ("jumprelu",), "k": (4,)}
    if source == "synthetic":
        options |= {"model": "synthetic", "tasks": ("recovery",)}
    elif source == "file":
        options |= {"data.source": "file", "data.dataset": str(write_texts(folder / "texts.jsonl", 20))}
    elif source == "hub":
        options |= {"data.source": "hub", "data.dataset": "someone/texts", "data.revision": "v1"}
    config = load_run(None, options)
    name, model = find_model(config.model)
    tasks = {task: get_task(task, {}, find_tasks()) for task in config.tasks or ("core",)}
    variants = {each: get_variant(each, {"bandwidth": 0.5}) for each in config.variants}
    inputs = inputs_of(config.data or model.data, tasks)
    return make_plan(config, name, model, variants, tasks, commit=local_commit(model), inputs=inputs)


@pytest.mark.parametrize("source", ["tinyworld", "file", "hub", "synthetic"])
def test_every_part_of_a_record_is_read_back(source: str, tmp_path: Path) -> None:
    plan = plan_on(source, tmp_path)
    (job,), (cell,) = plan.saes, plan.cells
    store = Store.open(tmp_path / "results", create=True)
    provenance = {"model": recorded(job.model.config)} | text_place(job.data)
    store.put_sae(job, SAERecord(job.key, "done", job.labels(), job.spec(), provenance=provenance), None)
    metrics = [asdict(metric) for metric in cell.task.metrics]
    record = Record(cell.key, "done", cell.labels(), metrics, spec=cell.spec(), sae_key=job.key)
    store.put(cell, record)

    assert Store.open(root_of(store), create=False).get(cell) == record
    place, found = find_sae(root_of(store), cell.key[:12])
    assert str(place) == str(sae_folder(store, job))
    assert found == store.get_sae(job)
    assert (found.spec, found.labels) == (job.spec(), job.labels())
    assert recorded_data(found.spec, found.provenance) == job.data
    assert ("content" in found.spec["data"]) == (source == "file")
    assert ModelConfig.model_validate(found.provenance["model"]) == job.model.config
    assert TrainingSpec.model_validate(found.spec["training"]) == job.training
    variant = dict(found.spec["variant"])
    assert get_variant(variant.pop("name"), variant) == job.variant
    assert EvaluationSpec.model_validate(record.spec["evaluation"]) == cell.scoring.evaluation
    task = record.spec["task"]
    assert get_task(task["name"], task["options"], find_tasks()) == cell.task


def test_the_text_of_a_record_has_to_have_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_texts(tmp_path / "texts.jsonl", 20)
    (job,) = plan_on("file", tmp_path).saes
    spec, place = job.spec(), text_place(job.data)
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    relative = spec | {"data": spec["data"] | {"dataset": "texts.jsonl"}}
    assert recorded_data(relative, place).dataset == str(file.resolve())
    whole = file.read_bytes()
    file.write_bytes(whole[:-2] + b"\n\n")
    with pytest.raises(UserError, match=r"texts\.jsonl has changed since the SAE was trained on it"):
        recorded_data(relative, place)
    # A copy in the folder where abench was started stands for it.
    (other / "texts.jsonl").write_bytes(whole)
    assert recorded_data(relative, place).dataset == "texts.jsonl"
    for each in (file, other / "texts.jsonl"):
        each.unlink()
    with pytest.raises(UserError, match="which does not exist"):
        recorded_data(relative, place)


@pytest.mark.slow
def test_a_latent_of_an_sae_trained_on_a_file(
    abench: Abench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_texts(tmp_path / "texts.jsonl")
    sizes = [word for key, value in SIZES.items() for word in ("--set", f"{key}={value}")]
    data = ("--set", "data.source=file", "--set", f"data.dataset={file.name}")
    variants = ("--variants", "topk", "--k", "4", "--width", "64", "--tokens", "2048")
    options = (*data, *sizes, *variants, "--results", tmp_path / "results")
    ran = abench("run", *options)
    assert ran.code == 0, ran.err
    (folder,) = (mark.parent for mark in tmp_path.glob("results/saes/*/*/*/sae.json"))
    monkeypatch.chdir(folder)
    command = ("show", folder, "--latent", "0", *FEW)
    shown = abench(*command)
    assert shown.code == 0, shown.err
    assert "Latent 0 of tiny" in shown.out
    monkeypatch.chdir(tmp_path)

    weights = folder / "sae_weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused = abench(*command)
    assert refused.code == 2
    assert (
        f"{weights} is damaged (its checksum does not match its content): `abench run` trains" in refused.err
    )
    # All cells are there, and still the damage is noticed, once, and mended.
    status = abench("status", *options)
    assert status.code == 4
    assert (status.out + status.err).count("is damaged") == 1
    assert status.out.splitlines()[-1] == "1 done, 1 SAE damaged"
    again = abench("run", *options)
    assert again.code == 0, again.err
    assert again.err.count("is damaged") == 1
    assert "0 cells computed, 1 from the results folder" in again.out
    assert weights.read_bytes() == whole
    assert abench("status", *options).code == 0

    (cell,) = tmp_path.glob("results/cells/*/*/*/*.json")
    cell.write_text(cell.read_text().replace('"nmse": 0.', '"nmse": 1.'))
    for command_line in (("show", cell), ("status", *options)):
        damaged = abench(*command_line)
        assert damaged.code == (2 if command_line[0] == "show" else 4)
        assert (damaged.out + damaged.err).count(f"{cell} is damaged") == 1
    assert damaged.out.splitlines()[-1] == "1 damaged"
    assert "1 cell computed, 0 from the results folder" in abench("run", *options).out

    curve = folder / "train.csv"
    before = (tmp_path / "results/reports/default/index.html").read_text()
    curve.write_bytes(curve.read_bytes()[:-30])
    report = abench("report", *options)
    assert report.code == 0
    assert report.err.count(f"{curve} is damaged") == 1
    assert (tmp_path / "results/reports/default/index.html").read_text() != before
    assert abench("run", *options).code == 0

    file.write_text(file.read_text()[:-40], encoding="utf-8")
    changed = abench(*command)
    assert changed.code == 2 and "has changed since the SAE was trained on it" in changed.err
