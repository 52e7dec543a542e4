"""Scores that do not mean anything: measured by tasks, stored in cells, shown as — with the reason."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from command import SMALL, Abench
from paper_cells import cell
from test_report_safety import CELLS, record
from test_report_strangers import SUFFIXES

from abench import Context, Metric, Precondition, Scores, Task
from abench.declaration import declaration_problems
from abench.report import prepare_report, read_tidy, summarise, tidy, write_report
from abench.report.tables import TableCell
from abench.report.tradeoff import tradeoff_points
from abench.report.validity import below, invalid_metrics
from abench.storage.sealed import read_sealed, write_sealed
from abench.task import ScoreError, with_values

F1 = "mean_absorption_fraction_score"


def valid_if(value: float | None, *metrics: str, at_least: float = 0.5, **fields: Any) -> dict[str, Any]:
    """A precondition as a cell stores it."""
    plain = {"name": "letter_f1", "title": "the F1 of its sparse probes", "at_least": at_least}
    return plain | {"description": "Nothing to absorb.", "metrics": [*metrics], "value": value} | fields


def absorbed(score: float, value: float | None, **fields: Any) -> dict[str, Any]:
    scores = {F1: score, "mean_full_absorption_score": 0.1}
    return cell("absorption", scores, valid_if=[valid_if(value, F1)], **fields)


def first_cells(records: list[dict[str, Any]]) -> list[TableCell]:
    """The absorption score in each row of the table of headlines."""
    return [row.cells[0] for row in prepare_report(records, title="T").tables.wide.rows()]


# Declaring and measuring


class Probing(Task):
    """A task with a precondition."""

    name: ClassVar[str] = "probing"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("a", True, headline=True), Metric("b", True))
    valid_if: ClassVar[tuple[Precondition, ...]] = (
        Precondition("accuracy", "the accuracy of the probes", 0.6, metrics=("a",)),
        Precondition("texts", "the number of texts", 10),
    )

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        return {"a": 1.0, "b": 1.0}


def test_measured_values_are_stored_with_bounds_and_metrics() -> None:
    first, second = with_values(Probing, [("texts", torch.tensor(3)), ("accuracy", 0.25)])
    assert (first["name"], first["at_least"], first["value"], first["metrics"]) == (
        "accuracy",
        0.6,
        0.25,
        ["a"],
    )
    assert (second["value"], second["metrics"]) == (3.0, ["a", "b"])
    assert with_values(Probing, [("texts", None), ("accuracy", 1)])[1]["value"] is None


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ([("accuracy", 1.0)], "did not measure its preconditions: texts"),
        ([("accuracy", 1.0), ("texts", 1.0), ("words", 1.0)], "does not declare: 'words'"),
        ([("accuracy", 1.0), ("texts", 1.0), ("texts", 1.0)], "measured the precondition texts twice"),
        ([("accuracy", math.nan), ("texts", 1.0)], "not finite: accuracy = nan"),
        ([("accuracy", "1"), ("texts", 1.0)], "measured accuracy as str, not as a number"),
        ([("accuracy", True), ("texts", 1.0)], "measured accuracy as bool, not as a number"),
        ([("accuracy", 10**400), ("texts", 1.0)], "too large for a float"),
    ],
)
def test_wrong_measurements_are_errors_as_wrong_scores_are(measured: Any, reason: str) -> None:
    with pytest.raises(ScoreError, match=re.escape(reason)):
        with_values(Probing, measured)


def changed(*preconditions: Any) -> type[Task]:
    return type("Changed", (Probing,), {"__doc__": "A task.", "valid_if": preconditions})


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (changed("accuracy"), "valid_if must contain abench.Precondition, not 'accuracy'"),
        (changed(Precondition("a", "it", 1)), "precondition 'a': a metric has the same name"),
        (changed(*[Precondition("c", "it", 1)] * 2), "precondition 'c': it is declared twice"),
        (changed(Precondition("c,d", "it", 1)), "without commas"),
        (changed(Precondition("c", "it", math.nan)), "at_least must be a finite number, not nan"),
        (changed(Precondition("c", "it", True)), "at_least must be a finite number, not True"),
        (changed(Precondition("c", " ", 1)), "title must say what is measured"),
        (changed(Precondition("c", "i\x1bt", 1)), "title contains control characters"),
        (changed(Precondition("c", "t" * 301, 1)), "title must be text of at most 300 characters"),
        (changed(Precondition("c", "it", 1, metrics=("z",))), "it names 'z', which is not one of the task's"),
        (changed(Precondition("c", "it", 1, metrics="a")), "metrics must be a tuple of metric names"),
        (type("Changed", (Probing,), {"valid_if": 3}), "valid_if must be a tuple of abench.Precondition"),
    ],
)
def test_wrong_declarations_are_named(declared: type[Task], problem: str) -> None:
    assert any(problem in each for each in declaration_problems(declared)), declaration_problems(declared)
    assert declaration_problems(Probing) == []


# Tables


def test_a_score_without_meaning_is_a_dash_with_reason_value_and_bound(tmp_path: Path) -> None:
    records = [
        absorbed(0.7, 0.09),
        absorbed(0.2, 0.8, variant="abstopk"),
        absorbed(0.3, 0.5, variant="jumprelu"),
    ]
    report = write_report(records, {}, tmp_path / "r", title="T")
    rows = {row.title: row for row in report.tables.wide.rows()}
    assert rows["TopK"].cells[0].text == "—" and rows["TopK"].cells[0].marks == (1,)
    assert rows["TopK"].cells[1].text != "—", "a metric that does not depend on the precondition"
    assert rows["JumpReLU"].cells[0].text == "0.300", "a value at its bound is enough"
    (note,) = report.tables.numbered
    assert note == (
        "Not meaningful: absorption: the F1 of its sparse probes is 0.09 (TopK, k = 8), but at least 0.50 is "
        "needed. Nothing to absorb."
    )
    for name in ("index.html", "table.md", "table.tex"):
        text = (report.folder / name).read_text(encoding="utf-8")
        assert "0.09 (TopK, k = 8), but at least 0.50" in text
        assert "0.723" not in text and "0.277" not in text
    assert note.split(",")[0] in " ".join(report.text(200).split())


def test_the_raw_score_is_in_data_csv_with_the_reason(tmp_path: Path) -> None:
    report = write_report([absorbed(0.7, 0.09), absorbed(0.2, 0.8, seed=1)], {}, tmp_path / "r", title="T")
    frame = read_tidy(report.folder / "data.csv")
    score = frame[frame["metric"] == F1].set_index("seed")
    assert score["value"].tolist() == [0.7, 0.2]
    assert score["valid"].tolist() == [False, True]
    assert score["invalid_because"].tolist() == [
        "the F1 of its sparse probes is 0.09, but at least 0.50 is needed",
        "",
    ]
    assert frame[frame["metric"] != F1]["valid"].all()
    pd.testing.assert_frame_equal(frame, tidy([absorbed(0.7, 0.09), absorbed(0.2, 0.8, seed=1)]))


def test_data_csv_says_why_there_is_no_score(tmp_path: Path) -> None:
    skipped = absorbed(0.7, 0.09, seed=1) | {"status": "skipped", "scores": {}, "reason": "No\nwords."}
    report = write_report([absorbed(0.2, 0.8), skipped], {}, tmp_path / "r", title="T")
    frame = read_tidy(report.folder / "data.csv").set_index(["metric", "seed"])
    assert frame.loc[(F1, 1), "invalid_because"] == "No words."
    assert pd.isna(frame.loc[(F1, 1), "valid"])
    assert frame.loc[(F1, 0), "invalid_because"] == ""


def test_an_invalid_score_is_neither_best_nor_in_a_figure(tmp_path: Path) -> None:
    best = [
        absorbed(0.01, 0.09),
        absorbed(0.2, 0.8, variant="abstopk"),
        absorbed(0.3, 0.8, variant="jumprelu"),
    ]
    report = write_report(best, {}, tmp_path / "r", title="T")
    bold = [row.title for row in report.tables.wide.rows() if row.cells[0].bold]
    assert bold == ["AbsTopK"]
    bars = pd.read_csv(report.folder / "task_scores.csv").set_index("variant")
    assert math.isnan(bars["mean"]["topk"]) and not math.isnan(bars["mean"]["abstopk"])
    table = (report.folder / "table.csv").read_text().splitlines()
    assert [line.split(",")[6:10] for line in table if ",topk," in line] == [["", "", "0", "1"]]


def test_a_mean_needs_the_precondition_in_all_seeds() -> None:
    records = [absorbed(0.3, 0.8), absorbed(0.4, 0.3, seed=1), absorbed(0.5, 0.8, seed=2)]
    (found,) = first_cells(records)
    assert (found.mean, found.text, found.n, found.of, found.marks) == (None, "2/3", 2, 3, (1,))
    (note,) = prepare_report(records, title="T").tables.numbered
    assert "is 0.30 (TopK, k = 8, 1 of 3 seeds), but" in note
    row = summarise(tidy(records)).set_index("metric").loc[F1]
    assert (row["n"], row["N"]) == (2, 3) and math.isnan(row["mean"])


def test_thirty_saes_with_one_reason_have_one_note() -> None:
    saes = [(k, seed) for k in range(1, 11) for seed in range(3)]
    records = [absorbed(0.7, 0.04 + k / 100, k=k, seed=seed) for k, seed in saes]
    prepared = prepare_report([*records, absorbed(0.2, 0.9, variant="abstopk")], title="T")
    (note,) = prepared.tables.numbered
    assert "is 0.05 to 0.14 (30 of 31 cells), but at least 0.50 is needed" in note
    assert all(row.cells[0].marks == (1,) for row in prepared.tables.wide.rows() if row.variant == "topk")
    site = [absorbed(0.7, 0.1, k=k, site=f"blocks.{block}") for k in range(1, 9) for block in (1, 2)]
    notes = prepare_report(site, title="T").tables.numbered
    assert [re.findall(r"at (\S+, \S+): .* is (\S+), but", each) for each in notes] == [
        [("tiny, blocks.1", "0.10")],
        [("tiny, blocks.2", "0.10")],
    ]


def test_cells_without_preconditions_or_measurements_are_shown_as_before() -> None:
    old = cell("absorption", {F1: 0.7, "mean_full_absorption_score": 0.1})
    assert "valid_if" not in old
    for each in (old, absorbed(0.7, None), absorbed(0.7, 0.9), {**old, "valid_if": None}):
        prepared = prepare_report([each], title="T")
        assert prepared.tables.wide.rows()[0].cells[0].text == "0.700"
        assert not [note for note in prepared.tables.general if "meaningful" in note]
    failed = absorbed(0.7, 0.09) | {"status": "failed", "scores": {}, "reason": "It broke."}
    assert prepare_report([failed], title="T").tables.numbered == ("Failed: It broke.",)


def test_data_csv_of_earlier_versions_can_still_be_read(tmp_path: Path) -> None:
    report = write_report([absorbed(0.7, 0.9), cell("scr", seed=1)], {}, tmp_path / "r", title="T")
    file = report.folder / "data.csv"
    of_run = ["run", "tokens", "learning_rate", "options"]
    pd.read_csv(file).drop(columns=["valid", "invalid_because", *of_run]).to_csv(file, index=False)
    frame = read_tidy(file)
    assert (frame["run"] == "").all()
    assert frame["tokens"].isna().all()
    assert frame["valid"].fillna(value=False).tolist() == frame["value"].notna().tolist()
    assert summarise(frame).set_index("metric")["mean"][F1] == 0.7


@pytest.mark.parametrize("value", [0.4999999, 0.09, -3.2, 0.0, 1e-9])
def test_a_printed_value_is_below_its_printed_bound(value: float) -> None:
    shown = float(below(valid_if(value)).replace("−", "-"))
    assert shown < 0.5
    assert shown == pytest.approx(value, rel=0.01, abs=0.005)


# Tables of a task's own


def steered(at_chance: float, refusals: float, **changes: Any) -> dict[str, Any]:
    chosen = CELLS[0]["details"]["steering"]["sae"]["chosen"]
    preconditions = [
        valid_if(at_chance, "utility", at_least=2.0, name="z", title="the utility above chance"),
        valid_if(refusals, "safety", at_least=0.05, name="r", title="the share of refusals"),
    ]
    return record("topk", changes.pop("seed", 0), chosen) | {"valid_if": preconditions} | changes


def test_a_utility_at_chance_is_marked_in_the_table_of_steering_and_in_no_figure(tmp_path: Path) -> None:
    report = write_report([steered(0.3, 0.5)], {}, tmp_path / "r", title="T")
    (table,) = report.tables.own
    assert table is not None
    columns = {column.metric: i for i, column in enumerate(table.columns)}
    rows = {row.title: row.cells for row in table.rows() if "(paper)" not in row.title}
    for title in ("DiM", "TopK"):
        utility = rows[title][columns["utility"]]
        assert (utility.mean is not None, utility.marks) == (True, (1,))
        safety = rows[title][columns["safety"]]
        assert (safety.mean is not None, safety.marks) == (True, ())
    assert rows["Original"][columns["utility"]].marks == (1,)
    assert not any(cell.marks for row in table.rows() if "(paper)" in row.title for cell in row.cells)
    assert "the utility above chance is 0.30, but at least 2.00 is needed" in report.tables.numbered[0]
    assert not list(report.folder.glob("tradeoff*"))
    assert len(tradeoff_points([steered(2.0, 0.5)])) > 0
    assert len(tradeoff_points([steered(2.0, 0.01)])) == 0


# Records of strangers


HOSTILE = {
    "no list": ({"letter_f1": 1}, "its preconditions are not a list"),
    "no mapping": ([3], "its preconditions are not a list"),
    "empty": ([{}], "its name must be text, not NoneType"),
    "NaN": ([valid_if(math.nan, F1)], "no finite number was recorded for its precondition letter_f1"),
    "text": ([valid_if("0.9", F1)], "no finite number was recorded"),  # type: ignore[arg-type]
    "truth": ([valid_if(True, F1)], "no finite number was recorded"),
    "no value": (
        [{n: v for n, v in valid_if(1, F1).items() if n != "value"}],
        "no finite number was recorded",
    ),
    "huge": ([valid_if(10**400, F1)], "no finite number was recorded"),
    "huge name": ([valid_if(1, F1, name="n" * 10_000)], "its name must have 1 to 100 characters"),
    "huge title": ([valid_if(1, F1, title="t" * 10_000)], "title must be text of at most 300 characters"),
    "bound": ([valid_if(1, F1, at_least=math.inf)], "at_least must be a finite number"),
    "metric": ([valid_if(1, "x")], "which is not one of the task's metrics"),
    "metrics": ([valid_if(1, F1) | {"metrics": 3}], "metrics must be a tuple of metric names"),
    "twice": ([valid_if(1, F1), valid_if(1, F1)], "it is declared twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_unreadable_preconditions_make_their_cell_a_failed_one(name: str) -> None:
    content, reason = HOSTILE[name]
    prepared = prepare_report(
        [absorbed(0.7, 0.9) | {"valid_if": content}, absorbed(0.2, 0.9, variant="abstopk")], title="T"
    )
    text = prepared.text(400)
    assert reason in text
    assert len(text) < 5000
    assert [row.cells[0].text for row in prepared.tables.wide.rows()] == ["0.200", "—"]


def test_markup_in_preconditions_acts_nowhere(tmp_path: Path) -> None:
    title = "<script>alert(1)</script> $x$ \\input{a} **b** =cmd\u202e\x1b[2J"
    hostile = absorbed(0.7, 0.1) | {"valid_if": [valid_if(0.1, F1, title=title, description="|x| <b>")]}
    report = write_report([hostile], {}, tmp_path / "r", title="T")
    texts = {file.name: file.read_text() for file in report.folder.glob("*.*") if file.suffix in SUFFIXES}
    assert "<script>alert" not in texts["index.html"] and "&lt;script&gt;" in texts["index.html"]
    assert r"\input{a}" not in texts["table.tex"]
    assert r"\*\*b\*\*" in texts["table.md"]
    assert not any(set("\u202e\x1b") & set(text) for text in [*texts.values(), report.text()])


# A real run


TASK = '''
from typing import ClassVar

from abench import Amount, Metric, Precondition, Task


class Asked(Task):
    """A task of which one precondition holds for all SAEs, and one for wide ones only."""

    name: ClassVar[str] = "asked"
    version: ClassVar[str] = "1"
    metrics: ClassVar = (Metric("wide_only", True, headline=True), Metric("always", True, headline=True))
    valid_if: ClassVar = (
        Precondition("model", "what the model can do", 0.5),
        Precondition("width", "the width of the SAE", 250, metrics=("wide_only",)),
    )

    def prepare(self, lm, ctx):
        ctx.used(Amount("words", 1, 1))
        ctx.measured("model", 0.75)

    def score(self, sae, prepared, lm, ctx):
        ctx.measured("width", sae.cfg.d_sae)
        return {"wide_only": 0.125, "always": 0.25}
'''


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "asked.py").write_text(TASK)
    yield tmp_path


def test_a_run_stores_what_was_measured_and_its_table_says_why(asked: Path, abench: Abench) -> None:
    where = ("--tasks-dir", asked / "tasks", "--results", asked / "results", "--set", "width=[200,300]")
    run = abench("run", *SMALL, *where, "--tasks", "asked", "--variants", "topk", "--k", "4")
    assert run.code == 0, run.err
    cells = [json.loads(file.read_text()) for file in sorted(asked.glob("results/cells/*/*/*/*.json"))]
    measured = {each["labels"]["width"]: [p["value"] for p in each["valid_if"]] for each in cells}
    assert measured == {200: [0.75, 200.0], 300: [0.75, 300.0]}
    words = " ".join(run.out.split())
    assert "Not meaningful: asked: the width of the SAE is 200 (TopK, k = 4), but at least 250" in words
    frame = read_tidy(asked / "results" / "reports" / "default" / "data.csv")
    invalid = frame[frame["valid"].eq(other=False)]
    assert invalid[["width", "metric", "value"]].to_numpy().tolist() == [[200, "wide_only", 0.125]]
    shown = abench("show", cells[0]["key"][:12], "--results", asked / "results")
    assert "wide_only is not meaningful: the width of the SAE is 200, but at least 250 is needed" in (
        " ".join(shown.out.split())
    )
    for file in asked.glob("results/cells/*/*/*/*.json"):
        content = read_sealed(file)
        del content["valid_if"]  # as in a cell of an earlier version
        write_sealed(file, content)
    earlier = abench("report", *SMALL, *where, "--tasks", "asked", "--variants", "topk", "--k", "4")
    assert earlier.code == 0, earlier.err
    assert "Not meaningful" not in earlier.out and earlier.out.count("0.125") == 2


def test_reasons_are_by_metric() -> None:
    found = invalid_metrics(absorbed(0.7, 0.09))
    assert found == {F1: "the F1 of its sparse probes is 0.09, but at least 0.50 is needed"}
    assert invalid_metrics(absorbed(0.7, 0.09) | {"status": "failed"}) == {}
