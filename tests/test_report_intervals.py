"""How surely tables say that a number is known: intervals, resolvable differences, ties with the best."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from paper_cells import cell, metrics_of, run_of

from abench.declaration import metric_problems
from abench.plugins import find_tasks
from abench.report import summarise, tidy
from abench.report.build import build_tables
from abench.report.items import items_of
from abench.report.latex import latex
from abench.report.page import render_page
from abench.report.render import markdown, numbers_csv, plain

KINDS = ("tasks", "reconstruction", "planes", "poles", "tradeoffs")
PROBING = "sae_top_1_test_accuracy"


def probing(scores: dict[str, list[float]], **fields: Any) -> list[dict[str, Any]]:
    """Cells of sparse probing: the scores of each variant, by seed."""
    return [
        cell("sparse_probing", {PROBING: score}, variant=variant, seed=seed, **fields)
        for variant, values in scores.items()
        for seed, score in enumerate(values)
    ]


def with_items(values: list[float], **fields: Any) -> dict[str, Any]:
    """A cell of sparse probing whose score is the mean over data sets."""
    metric = metrics_of("sparse_probing")[0] | {"items": f"datasets.*.{PROBING}"}
    details = {"datasets": {f"set.{i}": {PROBING: value} for i, value in enumerate(values)}}
    score = {PROBING: float(np.mean(values))}
    return cell("sparse_probing", score, metrics=[metric], details=details, **fields)


def marked(records: list[dict[str, Any]]) -> set[str]:
    rows = build_tables(records).wide.rows()
    return {row.variant for row in rows if row.cells[0].bold}


def test_every_format_has_mean_sd_n_and_the_interval() -> None:
    scores = [0.5, 0.6, 0.7]
    records = probing({"topk": scores, "abstopk": [0.1, 0.2, 0.3]})
    tables = build_tables(records)
    low, high = scipy.stats.t.interval(0.95, 2, loc=0.6, scale=scipy.stats.sem(scores))
    text = f"[{low:.3f}, {high:.3f}]"
    above, below = plain(tables).splitlines()[7:9]
    assert above.endswith("*0.600 ± 0.100")
    assert below == f"{text:>{len(above)}}"
    assert f"**0.600** ± 0.100 {text}" in markdown(tables)
    assert rf"{{\scriptsize ${text}$}}" in latex(tables)
    assert text in render_page(tables, records, dict.fromkeys(KINDS, ()))
    assert "the 95 % interval of the mean over seeds (Student's t)" in plain(tables).replace("\n    ", " ")
    numbers = numbers_csv(tables.wide).splitlines()[2].split(",")
    assert [float(each) for each in numbers[-6:]] == pytest.approx([0.6, 0.1, 3, 3, low, high])
    row = summarise(tidy(records)).set_index("variant").loc["topk"]
    assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_one_seed_has_no_interval_over_seeds() -> None:
    tables = build_tables(probing({"topk": [0.5], "abstopk": [0.4]}))
    assert all(each.low is None and not each.interval_text for each in tables.wide.cells())
    assert "[0" not in plain(tables)
    assert "can resolve" not in plain(tables)
    assert summarise(tidy(probing({"topk": [0.5]})))["low"].isna().all()


def test_the_interval_of_one_minus_the_score_is_turned_around() -> None:
    names = ("mean_absorption_fraction_score", "mean_full_absorption_score")
    scores = [dict.fromkeys(names, score) for score in (0.1, 0.2, 0.3)]
    records = [cell("absorption", each, seed=seed) for seed, each in enumerate(scores)]
    table = build_tables(records).paper
    assert table is not None
    (found,) = table.cells()
    half = scipy.stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half))


def test_values_that_cannot_be_told_from_the_best_are_marked_as_the_best_is() -> None:
    best = [0.80, 0.82, 0.84, 0.81]
    near = [value - shift for value, shift in zip(best, [0.01, -0.02, 0.02, 0.0], strict=True)]
    far = [value - shift for value, shift in zip(best, [0.11, 0.10, 0.12, 0.11], strict=True)]
    records = probing({"topk": best, "abstopk": near, "relu": far})
    assert marked(records) == {"topk", "abstopk"}
    assert "every mean that the seeds cannot tell from it" in markdown(build_tables(records))
    # The same means, in other pairs: the seeds' common part no longer cancels.
    assert marked(probing({"topk": best, "relu": [0.5, 0.9, 0.3, 0.8]})) == {"topk", "relu"}
    # One seed tells nothing, and only the best printed value is marked.
    single = build_tables(probing({"topk": [0.8], "abstopk": [0.79]}))
    assert [row.cells[0].bold for row in single.wide.rows()] == [False, True]
    assert "cannot tell" not in markdown(single)


def test_of_equal_variants_5_percent_of_tables_leave_one_unmarked() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.05, size=(1000, 2, 3))
    # One site per experiment, since only rows of one site are compared.
    records = [
        cell("sparse_probing", {PROBING: score}, variant=variant, seed=seed, site=f"blocks.{number}.x")
        for number, experiment in enumerate(draws.tolist())
        for variant, scores in zip(("topk", "abstopk"), experiment, strict=True)
        for seed, score in enumerate(scores)
    ]
    sections = build_tables(records).wide.sections
    told = [not all(row.cells[0].bold for row in section.rows) for section in sections]
    assert len(told) == 1000
    assert np.mean(told) == pytest.approx(0.05, abs=0.02)


def test_the_smallest_resolvable_difference_stands_under_the_table() -> None:
    sd = 0.1  # of each variant
    records = probing({"topk": [0.5, 0.6, 0.7], "abstopk": [0.1, 0.2, 0.3]})
    table = build_tables(records).wide
    note = next(note for note in table.notes if "can resolve" in note)
    assert note.startswith("The smallest difference that 3 seeds can resolve")
    shown = float(note.rstrip(".").rpartition(" ")[2])
    shift = shown / (sd * math.sqrt(2 / 3))
    assert scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, 4), 4, shift) == pytest.approx(0.8, abs=0.02)
    assert "can resolve" in latex(build_tables(records))
    # A metric without a better direction is not compared.
    assert all("can resolve" not in n for n in build_tables(run_of(seeds=1)).wide.notes)


def test_a_single_seed_has_the_interval_over_its_items() -> None:
    values = [0.5 + 0.04 * i for i in range(10)]
    tables = build_tables([with_items(values)])
    (found,) = tables.wide.cells()
    assert found.sd is None
    assert found.low is not None
    assert found.high is not None
    assert values[0] < found.low < found.mean < found.high < values[-1]  # type: ignore[operator]
    assert "the 95 % interval over items (bootstrap, BCa)" in markdown(tables)
    # Several seeds: the interval is the one over seeds.
    both = build_tables([with_items(values), with_items([v + 0.01 for v in values], seed=1)])
    assert "over items" not in markdown(both)
    (found,) = both.wide.cells()
    assert found.low == pytest.approx(0.685 - scipy.stats.t.ppf(0.975, 1) * 0.005, abs=1e-9)
    assert not build_tables([with_items(values[:7])]).wide.cells()[0].interval_text  # too few items


def test_items_must_have_the_score_as_their_mean() -> None:
    record = with_items([0.1, 0.2, 0.6])
    (metric,) = record["metrics"]
    items = items_of(record, metric)
    assert items is not None
    assert {name: value for name, (value, _) in items.items()} == {"set.0": 0.1, "set.1": 0.2, "set.2": 0.6}
    assert items_of(record | {"scores": {PROBING: 0.31}}, metric) is None
    assert items_of(record, metric | {"items": None}) is None
    for details in (
        None,
        {},
        {"datasets": 3},
        {"datasets": {"a": {PROBING: "high"}}},
        {"datasets": {"a": {}}},
    ):
        assert items_of(record | {"details": details}, metric) is None


def test_nested_items_are_weighted_as_in_a_mean_of_means() -> None:
    metric = metrics_of("ravel")[1] | {"items": "attributes.*.*.cause"}
    attributes = {
        "city": {"country": {"cause": 0.2}, "language": {"cause": 0.4}},
        "verb": {"tense": {"cause": 0.9}},
    }
    scores = {"cause_score": (0.3 + 0.9) / 2, "disentanglement_score": 0.0}
    items = items_of(cell("ravel", scores, details={"attributes": attributes}), metric)
    assert items is not None
    assert {name: weight for name, (_, weight) in items.items()} == pytest.approx(
        {"city/country": 0.25, "city/language": 0.25, "verb/tense": 0.5}
    )


def test_where_a_metric_has_its_items_is_a_path_with_a_star() -> None:
    metric = metrics_of("ravel")[0]
    assert metric_problems([metric | {"items": "attributes.*.cause"}]) == []
    for path in ("attributes", 3, ""):
        (problem,) = metric_problems([metric | {"items": path}])
        assert "items must be a path with a *" in problem


@pytest.mark.parametrize("task", ["sparse_probing", "scr", "tpp", "absorption", "ravel"])
def test_tasks_that_are_means_over_items_say_where_these_are(task: str) -> None:
    found = find_tasks()[task].value
    assert found is not None
    assert any(metric.items for metric in found.metrics)
