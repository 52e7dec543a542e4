"""How far metrics can be trusted: figures against closed forms, and the command on the bundled model."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
from command import Abench
from paper_cells import cell

from abench.plugins import find_tasks
from abench.reliability.figures import figures_of, values_of
from abench.reliability.study import SHARES, study_of
from abench.reliability.table import tables_of
from abench.reliability.validity import truth_of, why_unknown, with_validity
from abench.runs.planner import RunRequest

METRIC = "sae_top_1_test_accuracy"
OPTIONS = {
    "model": "tiny",
    "width": [64],
    "k": [4],
    "seeds": [3, 4],
    "tasks": ["core"],
    "context": 32,
    "training.tokens": 10_240,
    "training.batch_size": 512,
    "training.buffer_tokens": 1024,
    "evaluation.limit": 64,
    "evaluation.tokens": 2048,
}


def probing(scores: list[float], **fields: Any) -> list[dict[str, Any]]:
    return [cell("sparse_probing", {METRIC: score}, **fields) for score in scores]


def study(**options: Any) -> Any:
    request = RunRequest(options=OPTIONS | options)
    return study_of(request, 3, fetch=False, say=lambda _: None)


def test_the_figures_are_standard_deviations_and_their_ratio() -> None:
    trained = probing([0.5, 0.6])
    reseeded = values_of(probing([0.50, 0.52, 0.54]))
    shares = [values_of(probing([score])) for score in (0.1, 0.2, 0.3, 0.4, 0.5)]
    (found,) = figures_of(trained, reseeded, values_of(trained), shares)
    assert (found.place.metric, found.reseeds, found.trainings) == (METRIC, 3, 2)
    assert found.mean == pytest.approx(0.52)
    assert found.reseed == pytest.approx(0.02)
    assert found.training == pytest.approx(0.1 / math.sqrt(2))
    noise = math.sqrt(0.02**2 + 0.1**2 / 2)
    assert found.discrimination == pytest.approx(0.1 * math.sqrt(2.5) / noise)
    assert found.resolves is not None
    shift = found.resolves / noise  # two seeds: the standard error of a difference is the noise itself
    assert scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, 2), 2, shift) == pytest.approx(0.8, abs=1e-6)


def test_what_was_not_measured_is_absent() -> None:
    trained = probing([0.5, 0.6])
    (found,) = figures_of(trained, {}, values_of(trained), [values_of(trained[:1])] * 4 + [{}])
    assert (found.mean, found.reseed, found.discrimination, found.resolves) == (None, None, None, None)
    # Scores without any noise: a ratio to it is not defined.
    same = values_of(probing([0.5, 0.5]))
    (found,) = figures_of(trained, same, same, [values_of(probing([score])) for score in (0.1, 0.2)])
    assert (found.reseed, found.training, found.discrimination, found.resolves) == (0, 0, None, 0)
    # A failed cell and one whose score means nothing have no value.
    condition = {"name": "f1", "title": "the F1", "at_least": 0.5, "metrics": [METRIC], "value": 0.1}
    assert values_of([cell("sparse_probing"), *probing([0.3], valid_if=[condition])]) == {}


def test_the_cells_of_a_study_are_ordinary_cells_and_shared() -> None:
    found = study()
    whole = {each.key for each in found.training.cells}
    # Two seeds; the task that knows the truth is added to the requested one.
    assert Counter(each.task.name for each in found.training.cells) == {"core": 2, "planted": 2}
    assert found.truths == {"planted": "auroc"}
    # Evaluation seed 0 and the full training are the first seed's cells of the first plan.
    first, _ = found.reseeded[0].cells
    last, _ = found.shares[-1][1].cells
    assert first.key == last.key
    assert first.key in whole
    reseeded = [plan.cells[0] for plan in found.reseeded]
    assert len({each.key for each in reseeded}) == 3
    assert {each.sae.key for each in reseeded} == {first.sae.key}
    assert [each.scoring.evaluation.seed for each in reseeded] == [0, 1, 2]
    assert [plan.config.training.tokens for _, plan in found.shares] == [512, 1024, 2560, 5120, 10_240]
    assert tuple(share for share, _ in found.shares) == SHARES
    assert {each.sae.labels()["seed"] for _, plan in found.shares for each in plan.cells} == {3}


def test_validity_is_the_rank_correlation_with_the_truth_over_the_saes_of_all_variants() -> None:
    # Four SAEs of two variants; the error falls as the truth rises, apart from one exchange.
    truth, errors = [0.6, 0.7, 0.8, 0.9], [0.4, 0.3, 0.1, 0.2]
    shared = {"name": "auroc", "title": "", "higher_is_better": True, "headline": True}
    error = shared | {"name": "error", "higher_is_better": False}
    records = []
    for number, (true, wrong) in enumerate(zip(truth, errors, strict=True)):
        labels = {"variant": ("topk", "abstopk")[number % 2], "seed": number}
        records.append(cell("planted", {"auroc": true}, metrics=[shared], **labels))
        records.append(cell("mine", {"error": wrong}, metrics=[error], **labels))
    known = truth_of(records, {"planted": "auroc"})
    figures = with_validity(figures_of(records, {}, values_of(records), []), records, known)
    mine = [each for each in figures if each.place.task == "mine"]
    assert len(mine) == 2
    for each in mine:
        assert (each.truth, each.validity_n, each.is_truth) == ("planted.auroc", 4, False)
        assert each.validity == pytest.approx(0.8)
        assert each.validity_p == pytest.approx(8 / 24)
        half = 1.959964 * math.sqrt((1 + 0.8**2 / 2) / (4 - 3))
        ends = [math.tanh(math.atanh(0.8) + side * half) for side in (-1, 1)]
        assert [each.validity_low, each.validity_high] == pytest.approx(ends, abs=1e-6)
    assert [(each.is_truth, each.validity) for each in figures if each.place.task == "planted"] == [
        (True, None)
    ] * 2
    # Three SAEs say too little, and so do SAEs with another k.
    few = with_validity(
        figures_of(records, {}, {}, []), records[:6], truth_of(records[:6], {"planted": "auroc"})
    )
    assert {(each.validity, each.validity_n) for each in few if not each.is_truth} == {(None, 3)}
    (table,) = (each for each in tables_of(figures) if ", topk" in each.heading)
    assert {row[-1] for row in table.rows} == {"the truth", "+0.80 [−0.82, +1.00] (p = 0.33, n = 4)"}
    assert "planted.auroc" in " ".join(table.notes)


def test_where_nothing_is_known_the_column_and_a_note_say_so() -> None:
    records = [
        cell("planted", metrics=[], status="skipped", reason="the concepts are not known"),
        *probing([0.5]),
    ]
    assert truth_of(records, {"planted": "auroc"}) is None
    figures = with_validity(figures_of(records, {}, {}, []), records, None)
    (table,) = tables_of(figures, why_unknown(records, {"planted": "auroc"}))
    assert [row[-1] for row in table.rows] == ["no truth"]
    assert "planted: the concepts are not known" in " ".join(table.notes)


def test_without_options_it_studies_one_variant_with_all_tasks() -> None:
    request = RunRequest(options={"model": "tiny"})
    whole = study_of(request, 2, fetch=False, say=lambda _: None).training
    assert (whole.config.variants, whole.config.k, whole.config.name) == (("topk",), (16,), "reliability")
    known = {
        n: each.value for n, each in find_tasks().items() if each.value and "language" in each.value.kinds
    }
    assert {each.task.name for each in whole.cells} == known.keys()
    assert not all(task.in_all for task in known.values())
    other = study_of(replace(request, options={"variants": ["relu"]}), 2, fetch=False, say=lambda _: None)
    assert other.training.config.variants == ("relu",)


@pytest.mark.slow
def test_the_command_prints_and_writes_the_table_and_computes_nothing_twice(
    abench: Abench, tmp_path: Path
) -> None:
    options = [f"--set={key}={json.dumps(value)}" for key, value in OPTIONS.items()]
    line = ["reliability", *options, "--results", tmp_path / "r", "--reseeds", "2"]
    result = abench(*line)
    assert result.code == 0, result.err
    assert "Reliability: tiny, blocks.2.hook_resid_post, topk, k = 4, 64 latents" in result.out
    assert "reseed noise" in result.out
    folder = tmp_path / "r" / "reports" / "reliability"
    with (folder / "reliability.csv").open(encoding="utf-8") as stream:
        rows = {row["metric"]: row for row in csv.DictReader(stream)}
    assert {"nmse", "loss_recovered_zero", "kl"} <= rows.keys()
    assert {row["task_version"] for row in rows.values()} == {"1"}
    assert float(rows["nmse"]["training"]) > 0
    assert float(rows["nmse"]["discrimination"]) > 0
    assert "core v1" in (folder / "reliability.md").read_text(encoding="utf-8")
    cells = sorted((tmp_path / "r" / "cells").rglob("*.json"))
    # Two seeds, one more evaluation seed, and four shorter trainings, each with the truth.
    assert len(cells) == 14
    assert rows["nmse"]["truth"] == "planted.auroc"
    assert rows["nmse"]["validity_n"] == "6"
    assert -1 <= float(rows["nmse"]["validity"]) <= 1
    before = [file.stat().st_mtime_ns for file in cells]
    again = json.loads(abench(*line, "--json").out)
    assert [file.stat().st_mtime_ns for file in cells] == before
    assert {row["metric"] for row in again} == rows.keys()
