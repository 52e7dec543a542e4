"""Comparisons with a baseline: the same seeds and items, equal L0 by interpolation, fronts, the command."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from command import Abench
from paper_cells import cell, metrics_of, run_of

from abench.errors import UserError
from abench.report import write_report
from abench.report.comparisons import compare, names_of, plain_tables, text_tables
from abench.report.equal import at_equal
from abench.report.fronts import fronts_of
from abench.report.pairs import Comparison, at_equal_k, baseline_in
from abench.statistics import holm

PROBING = "sae_top_1_test_accuracy"
CORE = [("l0", None), ("nmse", False), ("loss_recovered_zero", True)]


def probing(variant: str, scores: list[float], **fields: Any) -> list[dict[str, Any]]:
    return [
        cell("sparse_probing", {PROBING: score}, variant=variant, seed=seed, **fields)
        for seed, score in enumerate(scores)
    ]


def itemised(variant: str, values: dict[str, float], **fields: Any) -> dict[str, Any]:
    """A cell whose score is the mean over data sets."""
    metric = metrics_of("sparse_probing")[0] | {"items": f"datasets.*.{PROBING}"}
    details = {"datasets": {name: {PROBING: value} for name, value in values.items()}}
    score = {PROBING: float(np.mean(list(values.values())))}
    return cell("sparse_probing", score, variant=variant, metrics=[metric], details=details, **fields)


def core(
    variant: str, k: int, l0: float, recovered: float, nmse: float = 0.1, seed: int = 0
) -> dict[str, Any]:
    """A cell of the task core."""
    metrics = [
        {"name": name, "title": name, "description": "", "headline": True, "higher_is_better": better}
        for name, better in CORE
    ]
    scores = {"l0": l0, "nmse": nmse, "loss_recovered_zero": recovered}
    record = cell("scr", scores, variant=variant, k=k, seed=seed, metrics=metrics)
    return record | {"labels": record["labels"] | {"task": "core"}, "key": f"core {variant} {k} {seed}"}


def one(records: list[dict[str, Any]], baseline: str = "topk") -> Comparison:
    (found,), problems = at_equal_k(records, baseline)
    assert not problems
    return found


def text_of(records: list[dict[str, Any]], baseline: str = "topk") -> str:
    text = plain_tables(text_tables(compare(records, baseline), names_of(records)))
    return " ".join(text.split())


# The same seeds


def test_a_difference_is_of_the_same_seeds_with_its_paired_interval_and_test() -> None:
    own, other = [0.5, 0.7, 0.65, 0.8], [0.4, 0.62, 0.5, 0.71]
    found = one(probing("relu", own) + probing("topk", other))
    gaps = np.subtract(own, other)
    low, high = scipy.stats.t.interval(0.95, 3, loc=gaps.mean(), scale=scipy.stats.sem(gaps))
    assert found.difference == pytest.approx(gaps.mean())
    assert found.interval == pytest.approx((low, high))
    assert found.test is not None
    assert found.test.p == found.test.smallest == 1 / 8
    assert (found.seeds, found.over, found.counts) == (4, "seeds", (4, 0, 0))
    assert found.verdict == ""  # four seeds cannot show it


def test_only_common_seeds_count() -> None:
    baseline = [each for each in probing("topk", [0.1, 0.2, 0.3]) if each["labels"]["seed"] != 1]
    found = one(probing("relu", [0.2, 0.9, 0.4]) + baseline)
    assert (found.seeds, found.own, found.other) == (2, pytest.approx(0.3), pytest.approx(0.2))
    apart = [*probing("relu", [0.2]), cell("sparse_probing", {PROBING: 0.1}, seed=7)]
    assert at_equal_k(apart, "topk") == (
        [],
        [f"ReLU, sparse_probing {PROBING}: there is no seed that both have."],
    )
    assert "the baseline has no value at the same k and width" in text_of(
        probing("relu", [0.2], k=16) + probing("topk", [0.1])
    )


def test_clear_differences_are_called_better_or_worse_by_the_metric_s_direction() -> None:
    scores = list(np.random.default_rng(0).uniform(0.4, 0.6, 8))
    ahead = [score + 0.1 for score in scores]
    assert one(probing("relu", ahead) + probing("topk", scores)).verdict == "better"
    assert one(probing("relu", scores) + probing("topk", ahead)).verdict == "worse"
    name = "mean_absorption_fraction_score"
    (metric, _) = metrics_of("absorption")
    lower = [
        cell("absorption", {name: score}, metrics=[metric], variant=variant, seed=seed)
        for variant, values in (("relu", ahead), ("topk", scores))
        for seed, score in enumerate(values)
    ]
    assert one(lower).verdict == "worse"


def test_p_values_are_corrected_over_the_table() -> None:
    records = run_of(("abstopk", "topk", "relu"), seeds=8)
    found, _ = at_equal_k(records, "topk")
    assert len(found) == 3 * 8  # two variants, one of them in two views; eight metrics have a direction
    assert [each.p_holm for each in found] == holm([each.test.p for each in found if each.test is not None])
    assert "corrected for all 24 tests" in text_of(records)


def test_without_a_difference_5_percent_are_called_different() -> None:
    draws = np.random.default_rng(1).normal(0.5, 0.05, size=(1500, 2, 8))
    found = [one(probing("relu", own) + probing("topk", other)) for own, other in draws.tolist()]
    assert np.mean([each.verdict != "" for each in found]) == pytest.approx(0.05, abs=0.01)


# The same items


def test_one_seed_is_compared_over_items() -> None:
    rng = np.random.default_rng(2)
    other = {f"set {i}": float(value) for i, value in enumerate(rng.uniform(0.5, 0.9, 12))}
    own = {name: value + 0.02 + 0.01 * float(rng.normal()) for name, value in other.items()}
    found = one([itemised("relu", own), itemised("topk", other)])
    assert (found.seeds, found.items, found.over, found.verdict) == (1, 12, "items", "better")
    assert found.interval is not None
    assert 0 < found.interval.low < found.difference < found.interval.high
    gaps = [own[name] - other[name] for name in own]
    p = scipy.stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert found.test is not None
    assert found.test.p == pytest.approx(p)
    assert "whether these two SAEs differ" in text_of([itemised("relu", own), itemised("topk", other)])


def test_only_items_that_both_were_scored_on_count() -> None:
    own, other = {"a": 0.9, "b": 0.8, "c": 0.1}, {"b": 0.7, "a": 0.6, "d": 1.0}
    found = one([itemised("relu", own), itemised("topk", other)])
    assert (found.items, found.own, found.other) == (2, pytest.approx(0.85), pytest.approx(0.65))
    assert found.test is not None
    assert found.test.p == 0.5


def test_other_parts_without_items_are_not_compared() -> None:
    parts = [[{"what": "letters", "used": list(used), "left_out": {}}] for used in ("ab", "abc")]
    records = [*probing("relu", [0.5], parts=parts[0]), *probing("topk", [0.4], parts=parts[1])]
    found, (problem,) = at_equal_k(records, "topk")
    assert not found
    assert "rests on other parts of the data" in problem
    assert one([*probing("relu", [0.5], parts=parts[0]), *probing("topk", [0.4], parts=parts[0])])


def test_one_seed_without_items_has_no_interval_and_no_p() -> None:
    found = one(probing("relu", [0.5]) + probing("topk", [0.4]))
    assert (found.interval, found.test, found.p_holm, found.verdict) == (None, None, None, "")
    assert found.difference == pytest.approx(0.1)
    text = text_of(probing("relu", [0.5]) + probing("topk", [0.4]))
    assert "there is no interval and no p" in text


def test_invalid_scores_are_not_compared() -> None:
    condition = {"name": "f1", "title": "the F1", "at_least": 0.5, "metrics": [PROBING], "value": 0.1}
    records = probing("relu", [0.5], valid_if=[condition]) + probing("topk", [0.4])
    assert at_equal_k(records, "topk")[0] == []


def test_both_views_are_compared_with_the_view_that_the_baseline_has() -> None:
    records = run_of(("abstopk", "topk"), seeds=2, tasks=("sparse_probing",))
    found, problems = at_equal_k(records, "topk")
    assert not problems
    assert [each.series.view for each in found] == ["native", "split"]
    assert found[0].other == found[1].other


# Equal L0 and loss recovered


def test_values_at_equal_l0_are_interpolated_along_each_seed_s_curve() -> None:
    records = [
        core(variant, k, l0=factor * k + seed, recovered=0.9, nmse=1 / (k + seed), seed=seed)
        for variant, factor in (("topk", 1), ("relu", 1.5))
        for k in (8, 16, 32)
        for seed in (0, 1)
    ]
    found = [each for each in at_equal(records, "topk", "l0").comparisons if each.series.metric == "nmse"]
    # The baseline's means are 8.5, 16.5 and 32.5; the curves of relu begin at 12 (seed 0) and 13 (seed 1),
    # and those of topk end at 32 and 33.
    assert [each.place for each in found] == [16.5]
    own = [
        np.interp(16.5, [12 + s, 24 + s, 48 + s], [1 / (8 + s), 1 / (16 + s), 1 / (32 + s)]) for s in (0, 1)
    ]
    other = [
        np.interp(16.5, [8 + s, 16 + s, 32 + s], [1 / (8 + s), 1 / (16 + s), 1 / (32 + s)]) for s in (0, 1)
    ]
    assert (found[0].own, found[0].other) == pytest.approx((np.mean(own), np.mean(other)))
    text = text_of(records)
    assert "nothing is extrapolated" in text
    assert "(12.5, 0.118) (24.5, 0.061) (48.5, 0.031)" in text


def test_variants_without_a_common_range_are_named_and_not_compared() -> None:
    records = [
        core("topk", 8, 8, 0.90),
        core("topk", 16, 16, 0.95),
        core("relu", 8, 20, 0.91),
        core("relu", 16, 40, 0.94),
    ]
    equal = at_equal(records, "topk", "l0")
    assert equal.comparisons == []
    assert equal.problems == ["No common range of L0 (core): ReLU has 20 to 40 and TopK has 8 to 16."]
    assert equal.problems[0] in text_of(records)
    recovered = at_equal(records, "topk", "loss_recovered").comparisons
    # topk's own means, 0.90 and 0.95, are outside of relu's curve: the middle of the common range is taken.
    assert [each.place for each in recovered] == pytest.approx([0.925])
    assert {each.series.metric for each in recovered} == {"nmse"}


def test_one_k_is_no_curve() -> None:
    records = [core("topk", 8, 8.0, 0.9), core("relu", 8, 8.1, 0.95)]
    assert at_equal(records, "topk", "l0").problems == [
        "No common range of L0 (core): ReLU has 8.1 to 8.1 and TopK has 8 to 8."
    ]
    same = [core("topk", 8, 8.0, 0.9), core("relu", 8, 8.0, 0.95)]
    assert len(at_equal(same, "topk", "l0").comparisons) == 2


def test_a_seed_with_fewer_points_is_left_out_of_the_curves() -> None:
    records = [
        core(v, k, k + s / 100, 0.9, seed=s) for v in ("topk", "relu") for k in (8, 16) for s in (0, 1)
    ]
    whole = at_equal(records, "topk", "l0").comparisons
    assert {each.seeds for each in whole} == {2}
    fewer = at_equal(records[:-1], "topk", "l0").comparisons
    assert {each.seeds for each in fewer} == {1}
    assert {each.place for each in fewer} == {8.0, 16.0}


# The Pareto front


def test_the_front_has_shares_only_with_the_same_several_seeds() -> None:
    def run(seeds: int) -> list[dict[str, Any]]:
        return [
            core(variant, 8, l0, recovered + noise * seed, seed=seed)
            for variant, l0, recovered, noise in (
                ("topk", 8.0, 0.9, 0.0),
                ("relu", 8.0, 0.8, 0.0),
                ("jumprelu", 9.0, 0.899, 0.003),
            )
            for seed in range(seeds)
        ]

    front = {point.variant: point for point in fronts_of(run(2))}
    assert {name: point.on_front for name, point in front.items()} == {
        "topk": True,
        "relu": False,
        "jumprelu": True,
    }
    assert (front["topk"].share, front["relu"].share) == (1.0, 0.0)
    # jumprelu leads topk unless the first seed is drawn twice: 3 of 4 resamples.
    assert front["jumprelu"].share == pytest.approx(0.75, abs=0.03)
    assert all(point.share is None for point in fronts_of(run(1)))
    assert all(point.share is None for point in fronts_of(run(2)[:-1]))


# The baseline


def test_the_baseline_is_topk_or_the_first_or_the_named_one() -> None:
    assert baseline_in(run_of(("abstopk", "topk")), None) == "topk"
    assert baseline_in(run_of(("abstopk", "relu")), None) == "abstopk"
    assert baseline_in(run_of(("abstopk", "relu")), "relu") == "relu"
    with pytest.raises(UserError, match="did you mean 'relu'"):
        baseline_in(run_of(("abstopk", "relu")), "rellu")
    with pytest.raises(UserError, match="the run has one variant"):
        baseline_in(run_of(("topk",)), None)


# The report and the command


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "r"
    records = [
        core(variant, k, k + shift, 0.8 + 0.005 * k + 0.001 * seed + shift / 100, nmse=1 / k, seed=seed)
        for variant, shift in (("topk", 0.0), ("abstopk", 1.0))
        for k in (8, 16)
        for seed in range(3)
    ]
    write_report([*records, *run_of(("topk", "abstopk"), (8, 16))], {}, folder, title="T")
    return folder


def test_the_report_has_a_section_data_and_a_figure(report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "<h2>Comparisons</h2>" in page
    assert "Comparison with TopK at equal L0: tiny, blocks.2.hook_resid_post" in page
    assert "## Comparison with TopK at equal k" in (report / "table.md").read_text(encoding="utf-8")
    with (report / "comparisons.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["at"] for row in rows} == {"k", "l0", "loss_recovered"}
    assert all(float(row["mean"]) - float(row["baseline_mean"]) == float(row["difference"]) for row in rows)
    assert {"pareto.png", "pareto.pdf", "pareto.csv"} <= {file.name for file in report.iterdir()}


def test_what_no_cell_measures_is_not_compared_at_equal_l0(abench: Abench, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    records = [each for name in ("topk", "abstopk") for each in probing(name, [0.7, 0.8])]
    write_report(records, {}, folder, title="T")
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert "at equal k" in text
    assert "at equal L0" not in text and "No common range" not in text
    assert "at equal L0" not in abench("compare", str(folder)).out
    asked = abench("compare", str(folder), "--at-equal", "l0")
    assert asked.code == 2
    assert "nothing can be compared at equal L0: it is measured by the task core" in asked.err


def test_one_variant_has_no_section(tmp_path: Path) -> None:
    write_report(run_of(("topk",)), {}, tmp_path / "r", title="T")
    assert not (tmp_path / "r" / "comparisons.csv").exists()
    assert "<h2>Comparisons" not in (tmp_path / "r" / "index.html").read_text(encoding="utf-8")


def test_the_command_reads_a_report_s_folder(abench: Abench, report: Path) -> None:
    text = abench("compare", str(report))
    assert text.code == 0
    assert "Comparison with TopK at equal k: tiny" in text.out
    assert "Pareto front: tiny" in text.out
    only = json.loads(abench("compare", str(report), "--at-equal", "l0", "--metrics", "nmse", "--json").out)
    assert {(row["at"], row["metric"]) for row in only} == {("l0", "nmse")}
    other = abench("compare", str(report), "--baseline", "abstopk", "--at-equal", "k").out
    assert "Comparison with AbsTopK at equal k" in other
    assert "at equal L0" not in other
    for arguments, message in (
        (("--baseline", "relu"), "there is no SAE 'relu'"),
        (("--k", "8"), "--k has no effect"),
        (("--metrics", "nmsee"), "no metric 'nmsee'"),
    ):
        failed = abench("compare", str(report), *arguments)
        assert failed.code == 2
        assert message in failed.err
    assert "holds no report" in abench("compare", str(report.parent)).err
