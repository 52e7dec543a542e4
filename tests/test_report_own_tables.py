"""Tables and notes that tasks declare themselves: from the example of the page to every format."""

import subprocess
import sys
from dataclasses import asdict
from statistics import mean, stdev
from typing import Any, ClassVar

import pytest
from doc_blocks import blocks
from paper_cells import cell, run_of
from test_report_safety import CELLS

import abench
from abench import Context, Metric, Scores, Task, TaskTable
from abench.report import (
    POLES_TABLE,
    SAFETY_TABLE,
    TWO_WAY_TABLE,
    Column,
    PreparedReport,
    Section,
    Table,
    TableCell,
    TableRow,
    prepare_report,
    table_of,
    write_prepared,
)
from abench.report.own import installed_tasks
from abench.report.tables import Tables

COLUMNS = (
    Column.own("first", "first half", "in the first half"),
    Column.own("second", "second half", "", True),
)


def halves(records: Any, styles: Any) -> Any:
    return table_of(records, "halves", COLUMNS, styles)


class Told(Task):
    """Stands for a task whose tables and notes are those of the class variables."""

    name: ClassVar[str] = "scr"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("told", None, headline=True),)
    own: ClassVar[Any] = ()
    said: ClassVar[Any] = ()

    @classmethod
    def tables(cls) -> Any:
        return cls.own() if callable(cls.own) else cls.own

    @classmethod
    def notes(cls, records: Any) -> Any:
        return cls.said(records) if callable(cls.said) else cls.said

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        raise NotImplementedError


def report(records: list[dict[str, Any]], own: Any = (), said: Any = ()) -> PreparedReport:
    """A report in which the task `scr` has these tables and notes."""
    hooks = {
        name: staticmethod(each) if callable(each) else each
        for name, each in {"own": own, "said": said}.items()
    }
    return prepare_report(records, title="T", tasks={"scr": type("Mine", (Told,), hooks)})


def cells(*found: Any, **labels: Any) -> list[dict[str, Any]]:
    scores = {"scr_metric_threshold_20": 0.5}
    return [
        cell("scr", scores, seed=seed, details={"halves": each}, **labels) for seed, each in enumerate(found)
    ]


def text(prepared: PreparedReport) -> str:
    return " ".join(prepared.text(400).split())


# From a task to the files


def test_the_example_of_the_page_stands_in_every_format(tmp_path: Any) -> None:
    (block,) = (each for each in blocks("docs/reports.md") if "TaskTable" in each.text)
    names: dict[str, Any] = {name: getattr(abench, name) for name in abench.__all__}
    exec(block.text, names)
    task = names["Mine"]
    scores, details = task.score(None, None, None, None, None)
    firsts = [0.5, 0.6, 0.75]
    metrics = [asdict(Metric("agreement", True, headline=True))]
    records = [
        cell("scr", scores, seed=seed, metrics=metrics)
        | {"details": {"halves": details["halves"] | {"first": first}}}
        for seed, first in enumerate(firsts)
    ]
    prepared = prepare_report(records, title="T", tasks={"scr": task})
    folder = write_prepared(prepared, {}, tmp_path / "r").folder
    shown = f"{mean(firsts):.3f}", f"{stdev(firsts):.3f}"
    for name, value in (
        ("table.md", "{} ± {}"),
        ("table.tex", r"{} \pm {}"),
        ("index.html", '{} <span class="sd">± {}'),
    ):
        content = (folder / name).read_text(encoding="utf-8")
        assert value.format(*shown) in content, name
        _, _, below = content.partition("Agreement by half of the context")
        assert 0 < below.index("first half") < below.index("Equal scores count"), name
    assert [table.heading for table in prepared.tables.shown] == ["Agreement by half of the context", "scr"]


def test_hooks_need_neither_torch_nor_transformers() -> None:
    code = """
import sys
from abench.report.own import installed_tasks
for task in installed_tasks().values():
    task.tables(), task.figures(), task.notes([])
print({"torch", "transformers"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_the_built_in_tables_come_from_their_tasks() -> None:
    declared = {name: tuple(task.tables()) for name, task in installed_tasks().items()}
    assert {name: each for name, each in declared.items() if each} == {
        "safety_utility": (SAFETY_TABLE,),
        "bidirectionality": (POLES_TABLE,),
        "two_way_steering": (TWO_WAY_TABLE,),
    }


# The table of details


def test_a_table_of_details_has_rows_sections_and_lacking_seeds_as_others() -> None:
    two = [{"first": 0.1, "second": 12.0}, {"first": 0.3, "second": 14.0}]
    records = [
        *cells(*two, variant="topk", site="b"),
        *cells(*two, variant="abstopk", site="a", view="split"),
        *cells(two[0], variant="abstopk", site="a"),
    ]
    failed = cell("scr", None, seed=1, variant="abstopk", site="a")
    (table,) = report([*records, failed], [TaskTable("Halves", halves)]).tables.own
    assert [(each.site, [row.title for row in each.rows]) for each in table.sections] == [
        ("a", ["AbsTopK (native)", "AbsTopK (split)"]),
        ("b", ["TopK"]),
    ]
    lacking, whole, _ = table.rows()
    assert [each.text for each in lacking.cells] == ["1/2", "1/2"]
    assert [(each.text, each.sd_text) for each in whole.cells] == [("0.200", "0.141"), ("13.0", "1.4")]
    assert whole.cells[0].interval_text == "[-1.071, 1.471]"  # 0.2 ± 12.706 · 0.1
    assert report(cells(None), [TaskTable("Halves", halves)]).tables.own == ()


def test_scores_that_mean_nothing_are_marked_and_only_shown_where_the_table_says_so() -> None:
    record = cell(
        "ravel",
        {"disentanglement_score": 0.5, "cause_score": 0.25},
        details={"halves": {"cause_score": 0.25}},
    )
    condition = {"name": "f1", "title": "the F1", "at_least": 0.5, "description": "", "value": 0.1}
    record["valid_if"] = [condition | {"metrics": ["cause_score"]}]
    record["metrics"][1]["headline"] = False

    def made(*tables: TaskTable) -> Tables:
        task = type("Mine", (Told,), {"own": tables})
        return prepare_report([record], title="T", tasks={"ravel": task}).tables

    def make(value: Any) -> Any:
        row = TableRow(8, "topk", "TopK", 64, "native", 1, (value,))
        where = (record["labels"]["model"], record["labels"]["site"])
        return lambda *_: Table("", (Column.own("cause_score", "cause"),), (Section(*where, (row,)),))

    value = TableCell(0.25, None, 1, 1, "0.25")
    plain, shown = made(TaskTable("A", make(value))), made(TaskTable("A", make(value), shows_invalid=True))
    (hidden,) = made(
        TaskTable("A", lambda r, s: table_of(r, "halves", (Column.own("cause_score", "c"),), s))
    ).own
    assert [each.own[0].cells()[0].marks for each in (plain, shown)] == [(), (1,)]
    assert (hidden.cells()[0].text, hidden.cells()[0].marks) == ("—", (1,))
    assert "the F1 is 0.10" in shown.numbered[0]
    assert made().numbered == ()


def test_notes_keep_their_numbers_when_a_table_brings_more() -> None:
    records = [*run_of(("topk",), seeds=1), cell("scr", None, variant="abstopk", reason="it is ill")]
    condition = {"name": "f1", "title": "the F1", "at_least": 0.5, "description": "", "value": 0.1}
    scr = next(each for each in records if each["labels"]["task"] == "scr")
    extra = {"name": "extra", "title": "", "description": "", "headline": False, "higher_is_better": None}
    scr |= {"metrics": [*scr["metrics"], extra], "scores": scr["scores"] | {"extra": 1.0}}
    scr |= {
        "valid_if": [condition | {"metrics": ["extra"]}],
        "details": {"halves": {"first": 1, "second": 2}},
    }
    before, after = report(records).tables, report(records, [TaskTable("Halves", halves)]).tables
    assert after.numbered[: len(before.numbered)] == before.numbered
    assert [text.partition(":")[0] for text in after.numbered[len(before.numbered) :]] == ["Not meaningful"]


# Beside other tables


def test_it_replaces_the_headline_metrics_only_if_it_says_so_and_every_cell_has_a_value() -> None:
    good, failed = cells({"first": 1, "second": 2}), cell("scr", None, seed=1, reason="it is ill")
    unread = cells(3, variant="abstopk")
    for each in (*good, failed, *unread):
        each["metrics"] = [metric | {"paper": None} for metric in each["metrics"]]

    def headings(records: Any, **fields: Any) -> list[str]:
        own = report(records, [TaskTable("Halves", halves, **fields)])
        return [table.heading for table in own.tables.shown]

    assert headings(good) == ["Halves", "scr"]
    assert headings(good, replaces_headline=True) == ["Halves"]
    assert headings([*good, failed], replaces_headline=True) == ["Halves", "scr"]
    assert headings([*good, *unread], replaces_headline=True) == ["Halves", "scr"]


def test_tables_of_the_paper_come_first_and_each_task_sees_only_its_own_cells() -> None:
    seen = []

    def noted(records: Any, styles: Any) -> Any:
        seen.append({record["labels"]["task"] for record in records})
        return halves(records, styles)

    (late,) = cells({"first": 1, "second": 2})
    late["labels"] |= {"task": "a_first_name"}
    mine = type("Mine", (Told,), {"own": [TaskTable("Halves", noted)]})
    tasks = {"a_first_name": mine, "safety_utility": installed_tasks()["safety_utility"]}
    tables = prepare_report([late, *CELLS], title="T", tasks=tasks).tables
    assert [table.heading for table in tables.own] == [SAFETY_TABLE.title, "Halves"]
    assert seen == [{"a_first_name"}]


def test_a_task_that_is_not_installed_is_named_and_its_headline_metrics_are_shown() -> None:
    prepared = prepare_report(CELLS, title="T", tasks={})
    assert [table.heading for table in prepared.tables.shown] == [""]
    assert "The task safety_utility is not installed: tables, figures and notes of its own" in text(prepared)
    assert "not installed" not in text(prepare_report(CELLS, title="T"))
    assert "not installed" not in text(prepare_report(run_of(), title="T", tasks={}))


# Faults


def broken(*_: Any) -> Any:
    raise ValueError("it is broken")


def absent(*_: Any) -> Any:
    raise FileNotFoundError("no such file")


def rows_of(*row: Any) -> TaskTable:
    table = Table("", COLUMNS, (Section("tiny", "s", (TableRow(8, "topk", "TopK", 64, "native", 1, row),)),))
    return TaskTable("Halves", lambda *_: table)


MADE = "The table 'Halves' of task scr could not be made from stored details: "


@pytest.mark.parametrize(
    ("own", "said", "sentence"),
    [
        (broken, (), "The tables of task scr could not be made"),
        ([3], (), "tables() must return abench.TaskTable, not int"),
        ([TaskTable("Halves", broken)], (), f"{MADE}ValueError: it is broken"),
        ([TaskTable("Halves", absent)], (), f"{MADE}FileNotFoundError"),
        (
            [TaskTable("Halves", lambda *_: 3)],
            (),
            f"{MADE}TypeError: it must be an abench.report.Table, not int",
        ),
        ([TaskTable("Halves", 3)], (), "details: ValueError: make: Input should be callable"),  # type: ignore[arg-type]
        ([TaskTable("Halves", halves, paper="first")], (), "details: ValueError: paper: Input should be"),  # type: ignore[arg-type]
        ([rows_of(TableCell())], (), f"{MADE}ValueError: row 'TopK' has 1 cells for 2 columns"),
        ([rows_of(3, 4)], (), f"{MADE}ValueError: sections.0.rows.0.cells.0: Input should be"),
        ([rows_of(TableCell(text=3), TableCell())], (), f"{MADE}ValueError: sections.0.rows.0.cells.0.text"),  # type: ignore[arg-type]
        ((), broken, "The notes of task scr could not be made from stored details: ValueError: it is broken"),
        ((), [3], "notes() must return str, not int"),
    ],
)
def test_a_fault_leaves_a_sentence_and_everything_else(own: Any, said: Any, sentence: str) -> None:
    records = [*run_of(("topk",), seeds=1), *cells({"first": 1, "second": 2}, variant="abstopk")]
    prepared = report(records, own, said)
    whole = report(records)
    assert sentence in text(prepared)
    assert prepared.tables.shown == whole.tables.shown
    assert prepared.tables.numbered == whole.tables.numbered
    extra = [note for note in prepared.tables.general if note not in whole.tables.general]
    assert len(extra) == 1


def test_cells_that_cannot_be_read_are_left_out_and_counted() -> None:
    def said(records: Any) -> list[str]:
        return [f"The first are {[each['details']['halves']['first'] for each in records]}."]

    prepared = report(
        [*cells({"first": 1, "second": 2}), *cells(3, variant="abstopk")],
        [TaskTable("Halves", halves)],
        said,
    )
    assert [row.title for row in prepared.tables.own[0].rows()] == ["TopK"]
    assert text(prepared).count("1 of 2 cells are left out.") == 2
    assert "The first are [1]." in text(prepared)


def test_texts_and_marks_of_cells_break_no_format(tmp_path: Any) -> None:
    text = "50 % | <b>a_b</b>\nnext"
    odd = TableCell(0.5, 0.1, 1, 1, text, "1 %", 0.0, 1.0, "[0 %, 1 %]", marks=(99,))
    prepared = report(cells({"first": 1, "second": 2}), [rows_of(odd, TableCell(0.5, None, 1, 1, "0.5"))])
    folder = write_prepared(prepared, {}, tmp_path / "r").folder
    tex, md, page = ((folder / name).read_text() for name in ("table.tex", "table.md", "index.html"))
    assert r"50 \% $|$ $<$b$>$a\_b$<$/b$>$ next $\pm$ 1 \% & $0.5$ \\" in tex
    assert r"{\scriptsize [0 \%, 1 \%]}" in tex
    (row,) = (line for line in md.splitlines() if "50 %" in line)
    assert row.replace(r"\|", "").count("|") == 6 and "next" in row
    assert "&lt;b&gt;a_b&lt;/b&gt;" in page and "<b>" not in page


def test_a_single_sentence_is_one_note_and_nothing_in_it_acts() -> None:
    assert "One note.␛[31m" in report(cells(None), said="One note.\x1b[31m").tables.general
