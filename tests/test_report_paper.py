"""The paper's table of tasks: what stands in it, which way it points, and what the paper prints there."""

import csv
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev
from typing import Any, ClassVar

import pytest
from paper_cells import PAPER, cell, run_of

from abench import Metric, Task
from abench.config import DataSpec, ModelConfig, RunConfig, model_config
from abench.report.build import build_tables
from abench.report.latex import latex
from abench.report.paper import TABLE
from abench.report.render import markdown, numbers_csv, plain
from abench.report.tables import Table, TableCell, TableRow
from abench.results.store import Record, Store
from abench.runs.plan import Plan, make_plan
from abench.runs.report_of_plan import write_plan_report
from abench.variants import get_variant, variant_names

QWEN = {"model": "qwen3-4b", "site": "blocks.18.hook_resid_post"}


def paper_table(records: list[dict[str, Any]]) -> Table:
    table = build_tables(records).paper
    assert table is not None
    return table


def row_of(table: Table, title: str) -> TableRow:
    (row,) = (row for row in table.rows() if row.title == title)
    return row


def column_of(table: Table, task: str) -> list[TableCell]:
    (place,) = (i for i, column in enumerate(table.columns) if column.task == task)
    return [row.cells[place] for row in table.rows()]


# What stands where


def test_columns_are_the_papers_in_its_order() -> None:
    assert [column.label for column in paper_table(run_of()).columns] == [
        "Unlearning 1 − score ↓",
        "Absorption 1 − score ↑",
        "SCR ↑",
        "TPP ↑",
        "RAVEL ↑",
        "Sparse probing ↑",
    ]


def test_rows_are_variants_in_their_views() -> None:
    titles = [row.title for row in paper_table(run_of()).rows()]
    assert titles == ["AbsTopK (native)", "AbsTopK (split)", "TopK", "JumpReLU"]


def test_a_task_of_ones_own_may_stand_there_too() -> None:
    own = cell("scr", {"scr_metric_threshold_20": 0.5})
    own["labels"]["task"] = "mine"
    assert [column.label for column in paper_table([*run_of(), own]).columns][-1] == "mine ↑"


def test_one_minus_score_turns_values_and_direction_but_not_the_best() -> None:
    scores = {"topk": [0.1, 0.2, 0.4], "abstopk": [0.3, 0.3, 0.6]}
    records = [
        cell("absorption", {"mean_absorption_fraction_score": s, "mean_full_absorption_score": s}, **labels)
        for variant, values in scores.items()
        for seed, s in enumerate(values)
        for labels in [{"variant": variant, "seed": seed}]
    ]
    tables = build_tables(records)
    paper, (own,) = paper_table(records), tables.tasks
    ours = row_of(paper, "TopK").cells[0]
    assert ours.mean == pytest.approx(1 - mean(scores["topk"]))
    assert ours.sd == pytest.approx(stdev(scores["topk"]))
    assert row_of(own, "TopK").cells[0].mean == pytest.approx(mean(scores["topk"]))
    assert own.columns[0].arrow == "↓"
    assert [row.cells[0].bold for row in paper.rows()] == [False, True]
    assert [row.cells[0].bold for row in own.rows()] == [False, True]


def test_what_the_first_table_shows_as_it_is_is_not_repeated() -> None:
    tables = build_tables(run_of())
    assert [table.heading for table in tables.tasks] == ["absorption", "ravel", "unlearning"]
    assert len(tables.wide.columns) == sum(map(len, PAPER.values()))
    assert numbers_csv(tables.wide).count("scr_metric_threshold_20 mean") == 1


def test_cells_from_before_there_was_such_a_table_have_none() -> None:
    records = run_of(("topk",), tasks=("scr", "tpp"))
    for record in records:
        record["metrics"] = [{k: v for k, v in m.items() if k != "paper"} for m in record["metrics"]]
    tables = build_tables(records)
    assert tables.paper is None
    assert [table.heading for table in tables.shown] == ["scr", "tpp"]


def test_of_several_metrics_of_a_task_the_first_stands_there() -> None:
    records = run_of(("topk",), tasks=("ravel",))
    for record in records:
        record["metrics"] = [metric | {"paper": "score"} for metric in record["metrics"]]
    assert [column.metric for column in paper_table(records).columns] == ["disentanglement_score"]


# Cells without values, and seeds


def test_skipped_cells_have_one_line_for_each_reason() -> None:
    records = run_of()
    for record in records:
        if record["labels"]["task"] == "unlearning":
            record |= {"status": "skipped", "scores": {}, "reason": "the model knows no answer"}
    tables = build_tables(records)
    assert tables.numbered == ("Skipped: the model knows no answer",)
    assert {(c.text, c.marks) for c in column_of(paper_table(records), "unlearning")} == {("—", (1,))}
    for text in (markdown(tables), plain(tables)):
        assert text.count("the model knows no answer") == 1


def test_a_lost_seed_leaves_no_mean_and_other_seeds_are_counted() -> None:
    records = [*run_of(("topk",), tasks=("scr",)), *run_of(("topk",), seeds=2, tasks=("tpp", "ravel"))]
    lost = next(r for r in records if r["labels"]["task"] == "ravel")
    lost |= {"status": "failed", "scores": {}, "reason": "Out of memory."}
    (row,) = paper_table(records).rows()
    assert row.seeds == 3
    assert [(c.mean is None, c.text, c.seeds_text) for c in row.cells][2] == (True, "1/2", "")
    assert [c.seeds_text for c in row.cells[:2]] == ["", "n = 2"]


def test_one_seed_is_said_to_be_one() -> None:
    tables = build_tables(run_of(seeds=1))
    assert all(c.sd is None for c in paper_table(run_of(seeds=1)).cells())
    assert "A value without ± comes from one seed (n = 1)." in tables.general
    assert "±" not in plain(tables).replace("without ±", "")


def test_a_task_without_a_split_view_leaves_that_row_empty() -> None:
    records = [r for r in run_of() if (r["labels"]["task"], r["labels"]["view"]) != ("ravel", "split")]
    split = row_of(paper_table(records), "AbsTopK (split)")
    assert [c.text == "" for c in split.cells] == [False, False, False, False, True, False]


# Notes


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("scr", "arXiv 2605.18229"),
        ("tpp", "arXiv 2605.18229"),
        ("unlearning", "another definition"),
        ("unlearning", "lower is better for 1 − score"),
        ("ravel", "equal L0"),
    ],
)
def test_a_caveat_stands_where_its_task_does(task: str, words: str) -> None:
    with_task = plain(build_tables(run_of(tasks=(task,))), width=1000)
    others = tuple(set(PAPER) - {task} - ({"scr", "tpp"} if "2605" in words else set()))
    assert words in with_task
    assert words not in plain(build_tables(run_of(tasks=others)), width=1000)


def test_the_metrics_behind_the_columns_are_named() -> None:
    note = paper_table(run_of()).notes[0]
    assert "Absorption = 1 − mean_absorption_fraction_score; SCR = scr_metric_threshold_20;" in note


# The paper's own numbers


def test_the_papers_numbers_stand_below_ours_and_never_compete() -> None:
    records = run_of(("abstopk", "topk", "relu"), (64, 256), **QWEN)
    table = paper_table(records)
    assert [row.title for row in table.rows()][-2:] == ["AbsTopK (paper)", "TopK (paper)"]
    row = row_of(table, "AbsTopK (paper)")
    assert [c.text for c in row.cells] == ["", "", "0.35", "0.36", "0.81", ""]
    assert row.labels(show_width=True) == ["", "AbsTopK (paper)", "", ""]
    assert not any(c.bold or c.of for c in row.cells)
    assert not table.show_width
    assert any("(paper): quoted from summaries" in note for note in table.notes)
    assert "Empty cells" not in " ".join(build_tables(records).general)
    text = plain(build_tables(records), width=160)
    assert re.search(r"\n +AbsTopK \(paper\) +0\.35 +0\.36 +0\.81\n", text)


@pytest.mark.parametrize(
    "other",
    [
        {"model": "gemma-2-2b"},
        {"model": "Qwen/Qwen3-4B"},
        {"site": "blocks.20.hook_resid_post"},
        {"site": "blocks.18.hook_resid_pre"},
        {"site": "blocks.118.hook_resid_post"},
        {"variant": "batchtopk"},
        {"task": "absorption"},
    ],
)
def test_the_papers_numbers_are_for_one_model_site_variant_and_task(other: dict[str, str]) -> None:
    place = {**QWEN, "variant": "topk", "task": "scr"}
    assert len(paper_table(list(made_at(place))).rows()) == 2
    assert len(paper_table(list(made_at(place | other))).rows()) == 1


def made_at(place: dict[str, str]) -> Iterator[dict[str, Any]]:
    task, variant, *rest = (place[name] for name in ("task", "variant", "model", "site"))
    yield from run_of((variant,), tasks=(task,), model=rest[0], site=rest[1])


def test_numbers_of_other_tables_of_the_paper_do_not_come_in() -> None:
    records = run_of(("topk",), tasks=("scr",), **QWEN)
    for record in records:
        record["labels"]["task"] = "mmlu"
    assert len(paper_table(records).rows()) == 1


def test_the_shipped_numbers_name_models_and_variants_that_exist() -> None:
    text = files("abench.report").joinpath("paper_numbers.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 53
    of_tasks = [row for row in rows if row["table"] == TABLE]
    assert {row["metric"] for row in of_tasks} <= set(PAPER)
    assert {row["variant"] for row in rows} <= {*variant_names(), "original", "dim"}
    for row in rows:
        assert int(row["layer"]) < model_config(row["model"]).n_layers
        assert float(row["value"]) >= 0
    assert all(0 <= float(row["value"]) <= 1 for row in of_tasks)


# Rendering

MANY = ("abstopk", "topk", "absjumprelu", "multistep", "matryoshka", "relu", "my_own_variant")


@pytest.mark.parametrize("width", [80, 110, 160])
def test_the_tables_fit_the_terminal(width: int) -> None:
    records = [*run_of(MANY, (8, 16)), *run_of(("topk", "abstopk"), **QWEN)]
    text = plain(build_tables(records, title="long " * 40), width)
    assert max(map(len, text.splitlines())) <= width
    first, _, rest = text.partition("Unlearning =")
    for title in ("Multi-step AbsTopK (split)", "my_own_variant", "AbsTopK (paper)"):
        assert title in first
    assert "(paper)" not in rest.replace("(paper): quoted", "")


def test_wide_terminals_show_all_tasks_side_by_side() -> None:
    lines = plain(build_tables(run_of()), 140).splitlines()
    (head,) = (line for line in lines if "Unlearning  " in line)
    assert "Sparse probing" in head


def test_latex_tables_stand_alone() -> None:
    records = run_of(("abstopk", "topk"), **QWEN)
    for record in records:
        if record["labels"]["task"] == "unlearning":
            record |= {"status": "skipped", "scores": {}, "reason": "It knows nothing."}
    text = latex(build_tables(records, title="T"))
    parts = text.split(r"\begin{table}")[1:]
    assert [re.search(r"\\caption\{(.*)\}", part)[1] for part in parts] == [  # type: ignore[index]
        "T: Tasks as in the paper",
        "T: absorption",
        "T: ravel",
        "T: unlearning",
    ]
    assert ["It knows nothing." in part for part in parts] == [True, False, False, True]
    assert ["2605.18229" in part for part in parts] == [True, False, False, False]
    assert "U+" not in text
    for part in parts:
        body = part[part.index(r"\toprule") : part.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "{l}" not in line]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")


# From the store


class Probing(Task):
    """Has the metrics of a real task and is never run."""

    name: ClassVar[str] = "sparse_probing"
    version: ClassVar[str] = "1"
    views: ClassVar[tuple[Any, ...]] = ("native", "split")
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy", True, headline=True, paper="score"),)

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Any) -> dict[str, float]:
        raise NotImplementedError


class Forgetting(Probing):
    """A second one, shown the other way round."""

    name: ClassVar[str] = "unlearning"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("forgotten", True, headline=True, paper="1 - score"),)


def planned() -> Plan:
    data = DataSpec(source="tinyworld", dataset=None)
    model = ModelConfig(title="M", weights="x", n_layers=4, d_model=32, layers=(2,), k=(4,), data=data)
    config = RunConfig.model_validate({"variants": ("abstopk", "topk"), "seeds": (0, 1)})
    variants = {name: get_variant(name, {}) for name in config.variants}
    tasks = {task.name: task for task in (Probing(), Forgetting())}
    return make_plan(config, "m", model, variants, tasks, commit="c0ffee")


def test_a_report_of_stored_skipped_and_missing_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "97")
    plan, store = planned(), Store.open(tmp_path / "results", create=True)
    for place, each in enumerate(plan.cells):
        record = Record(
            key=each.key,
            status="done",
            labels=each.labels(),
            metrics=[asdict(metric) for metric in each.task.metrics],
            scores={each.task.metrics[0].name: 0.1 * place},
            sae_key=each.sae.key,
            spec=each.spec(),
        )
        if each.task.name == "unlearning" and each.view == "split":
            record = replace(record, status="skipped", scores={}, reason="it has no split")
        if each.sae.seed == 0 or each.task.name == "unlearning":
            store.put(each, record)
    written = write_plan_report(plan, store)
    names = {path.name for path in written.folder.iterdir()}
    assert {"table.md", "task_scores.png", "task_scores.pdf", "task_scores.csv"} <= names
    assert re.search(r"AbsTopK \(native\) +2 +\S+ ± \S+ +1/2 \[1\]", written.text)
    assert re.search(r"AbsTopK \(split\) +2 +— \[2\] +1/2 \[1\]", written.text)
    assert "[1] Not computed yet." in written.text
    assert "[2] Skipped: it has no split" in written.text
    assert max(map(len, written.text.splitlines())) <= 97
    page = (written.folder / "index.html").read_text(encoding="utf-8")
    assert (
        page.index("<h3>Tasks as in the paper</h3>") < page.index("task_scores.csv") < page.index("<h3>unl")
    )
    assert "<h3>sparse_probing" not in page
