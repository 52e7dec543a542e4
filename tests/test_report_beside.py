"""The paper's numbers beside ours: the right values, differences and settings, in every format."""

import csv
from pathlib import Path
from typing import Any

import pytest
from paper_cells import run_of
from test_report_safety import outcome, record

from abench.report import prepare_report, write_report
from abench.report.about import About
from abench.report.beside_paper import Beside, beside_paper
from abench.report.paper import SCR_TPP
from abench.report.paper_numbers import all_numbers

QWEN: dict[str, Any] = {"model": "qwen3-4b", "site": "blocks.18.hook_resid_post", "width": 40960}


def rows_of(records: list[dict[str, Any]]) -> dict[tuple[str, ...], Beside]:
    prepared = prepare_report(records, title="T")
    rows = beside_paper(prepared.summary, prepared.records)
    return {(r.paper.model, r.paper.layer, r.paper.metric, r.paper.variant): r for r in rows}


def paper_run(tokens: int = 122_880_000, seeds: int = 5, **labels: Any) -> list[dict[str, Any]]:
    cells = run_of(("abstopk", "topk"), (256,), seeds, ("scr", "unlearning"), **(QWEN | labels))
    return [cell | {"about": {"tokens": tokens}} for cell in cells]


def test_ours_is_the_mean_over_seeds_and_the_difference_is_ours_minus_theirs() -> None:
    cells = paper_run()
    row = rows_of(cells)["qwen3-4b", "18", "scr", "abstopk"]
    mine = [
        cell["scores"]["scr_metric_threshold_20"]
        for cell in cells
        if (cell["labels"]["task"], cell["labels"]["variant"], cell["labels"]["view"])
        == ("scr", "abstopk", "native")
    ]
    assert len(mine) == row.ours.n == 5
    assert row.ours.mean == pytest.approx(sum(mine) / 5)
    assert row.paper.value == "0.35"
    assert row.difference == pytest.approx(sum(mine) / 5 - 0.35)
    assert row.differs == ()


def test_one_minus_score_is_compared_where_the_paper_shows_it() -> None:
    row = rows_of(paper_run())["gpt2", "6", "unlearning", "topk"]
    assert row.ours.mean == pytest.approx(1 - 0.05, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": 2_000_000}, "training (2,000,000 tokens)"),
        ({"seeds": 2}, "seeds (2; 5 there)"),
        ({"model": "gemma-2-2b"}, "model (gemma-2-2b)"),
        ({"site": "blocks.9.hook_resid_post"}, "site (blocks.9.hook_resid_post)"),
        ({"width": 64}, "latents (64; 40,960 there)"),
    ],
)
def test_another_setting_is_named(changes: dict[str, Any], said: str) -> None:
    row = rows_of(paper_run(**changes))["qwen3-4b", "18", "scr", "topk"]
    assert row.differs == (said,)


def test_the_nearest_setting_is_compared() -> None:
    cells = [*paper_run(), *paper_run(site="blocks.20.hook_resid_post"), *paper_run(width=64)]
    row = rows_of(cells)["qwen3-4b", "18", "scr", "abstopk"]
    assert (row.ours.site, row.ours.width) == (QWEN["site"], 40960)


def test_the_batch_level_variants_stand_for_the_papers_where_there_is_no_other() -> None:
    cells = run_of(("batchabstopk",), (256,), 1, ("scr",), **QWEN)
    assert rows_of(cells)["qwen3-4b", "18", "scr", "abstopk"].ours.variant == "batchabstopk"


def test_a_mean_that_lacks_a_seed_is_no_value() -> None:
    cells = paper_run()
    cells[0] |= {"status": "failed", "scores": {}, "reason": "It broke."}
    assert ("qwen3-4b", "18", "scr", "abstopk") not in rows_of(cells)


def test_an_sae_that_does_not_state_its_k_is_compared_all_the_same() -> None:
    cells = run_of(("topk",), (256,), 1, ("scr",), **QWEN)
    cells[0]["labels"] |= {"k": None}
    row = rows_of(cells)["qwen3-4b", "18", "scr", "topk"]
    assert row.differs[0] == "k (unknown; 256 there)"


def test_the_unsteered_model_and_dim_are_compared_in_percent() -> None:
    rows = rows_of([record("abstopk", 0, outcome(0.68, 0.8))])
    assert rows["qwen3-4b", "18", "mmlu", "original"].ours.mean == pytest.approx(70)
    assert rows["qwen3-4b", "18", "harmbench", "dim"].difference == pytest.approx(80 - 80.6)
    assert rows["qwen3-4b", "18", "harmbench", "abstopk"].ours.mean == pytest.approx(80)
    assert rows["qwen3-4b", "20", "harmbench", "abstopk"].differs[0] == f"site ({QWEN['site']})"


def test_the_report_has_them_in_every_format_with_the_conflicts_and_failings(tmp_path: Path) -> None:
    report = write_report(paper_run(), {}, tmp_path / "r", title="T")
    lines = list(csv.DictReader((report.folder / "paper.csv").read_text(encoding="utf-8").splitlines()))
    # The run has two tasks of the paper's Table 3; its numbers are those of that table.
    expected = [
        n for n in all_numbers() if n.metric in ("scr", "unlearning") and n.variant in ("abstopk", "topk")
    ]
    assert [line["paper"] for line in lines] == [number.value for number in expected]
    assert {line["source"] for line in lines} == {"summary"}
    assert {line["same_setting"] for line in lines if line["metric"] == "scr"} == {"True"}
    page = (report.folder / "index.html").read_text(encoding="utf-8")
    markdown = (report.folder / "paper.md").read_text(encoding="utf-8")
    for text in (page, markdown):
        assert "batches of 128 (3.84 million)" in text
        assert "arXiv 2605.18229" in text
        assert "the same as far as known" in text
    assert r"\begin{longtable}" in (report.folder / "paper.tex").read_text(encoding="utf-8")


def test_nothing_is_compared_that_the_run_does_not_have(tmp_path: Path) -> None:
    report = write_report(run_of(("relu",), tasks=("absorption",)), {}, tmp_path / "r", title="T")
    assert not (report.folder / "paper.csv").exists()
    assert "beside ours" not in (report.folder / "index.html").read_text(encoding="utf-8")


def test_the_failings_of_scr_and_tpp_stand_wherever_they_stand() -> None:
    names = ["scr_metric_threshold_20"]
    about = About("abench run", {"metrics": names})
    only = prepare_report(run_of(tasks=("scr",)), title="T", about=about).tables
    assert SCR_TPP in only.shown[0].notes
    cells = [
        cell | {"metrics": [metric | {"paper": None} for metric in cell["metrics"]]}
        for cell in run_of(tasks=("tpp",))
    ]
    assert SCR_TPP in prepare_report(cells, title="T").tables.shown[0].notes
    assert SCR_TPP not in prepare_report(run_of(tasks=("ravel",)), title="T").tables.shown[0].notes
