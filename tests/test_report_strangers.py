"""What tasks and models of strangers hand over: bad metrics, bad details, text that acts."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_report_files import fake_cell, fake_run

from abench.report import prepare_report, read_tidy, tidy, write_report
from abench.report.csvfile import as_text, from_text
from abench.report.frame import write_tidy
from abench.sanitize.printable import all_visible, visible


def entropy(**fields: Any) -> dict[str, Any]:
    """A cell of another task beside those of `fake_run`, with a fault."""
    cell = fake_cell(fake_run(("topk",), (8,), 1)[0][0]["labels"] | {"task": "scr"}, {"scr": 0.5})
    return cell | {"labels": cell["labels"] | {"task": "entropy"}} | fields


def metric(**fields: Any) -> dict[str, Any]:
    plain = {"name": "entropy", "title": "", "higher_is_better": True, "headline": True, "description": ""}
    return plain | fields


@pytest.mark.parametrize(
    ("metrics", "scores", "reason"),
    [
        (
            [metric(higher_is_better="higher")],
            {"entropy": 1.0},
            "higher_is_better must be True, False or None",
        ),
        ([metric(), metric()], {"entropy": 1.0}, "it is declared twice"),
        ([metric(name="seed")], {"seed": 1.0}, "'seed' is a column of reports"),
        ([metric(headline="yes")], {"entropy": 1.0}, "headline must be True or False"),
        ([], {}, "there are none"),
        ([metric()], {"entropy": "high"}, "no finite number was recorded for entropy"),
        ([metric()], {"entropy": True}, "no finite number was recorded for entropy"),
        ([metric()], {}, "no finite number was recorded for entropy"),
    ],
)
def test_a_task_with_bad_metrics_or_scores_is_a_row_with_the_reason(
    metrics: list[dict[str, Any]], scores: dict[str, Any], reason: str
) -> None:
    cells, _ = fake_run(("topk", "abstopk"), (8,), 1)
    alone = prepare_report(cells, title="T").text(200)
    text = prepare_report([*cells, entropy(metrics=metrics, scores=scores)], title="T").text(200)
    core = alone.split("core: tiny")[1].split("\n\n")[1]
    assert core in text
    assert reason in text
    assert "entropy: tiny" in text


def test_a_bad_task_stands_in_every_file_with_its_reason(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 1)
    bad = entropy(metrics=[metric(higher_is_better="higher")], scores={"entropy": 1.0})
    report = write_report([*cells, bad], curves, tmp_path / "r", title="T")
    for name in ("index.html", "table.md", "table.tex"):
        text = (report.folder / name).read_text()
        assert "entropy" in text
        assert "must be True, False or None" in text
    assert "entropy.score mean" in (report.folder / "table.csv").read_text()
    assert (report.folder / "reconstruction.png").is_file()


@pytest.mark.parametrize(
    ("task", "payload", "content"),
    [
        *(("bidirectionality", "poles", each) for each in (3, [3], {}, {"shares": 3})),
        *(("safety_utility", "steering", each) for each in (3, [], {}, {"original": 3})),
        *(("two_way_steering", "two_way", each) for each in (3, [], {}, {"methods": 3})),
        *(("autointerp", "autointerp", each) for each in (3, [], {}, {"judge": 3})),
    ],
)
def test_details_that_cannot_be_read_cost_only_what_is_made_of_them(
    task: str, payload: str, content: object
) -> None:
    cells, _ = fake_run(("topk",), (8,), 1)
    for cell in cells:
        if cell["labels"]["task"] == "scr":
            cell["labels"]["task"] = task
            cell["details"] = {payload: content}
    text = prepare_report(cells, title="T").text(200)
    assert f"of task {task} could not be made from stored details" in " ".join(text.split())
    assert "core: tiny" in text and f"{task}: tiny" in text


def test_details_that_no_part_of_a_page_can_read_cost_only_these_parts(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 1)
    first = cells[0]
    names = ("plane", "poles", "steering", "two_way")
    for task in ("recovery", "bidirectionality", "safety_utility", "two_way_steering"):
        labels = first["labels"] | {"task": task}
        cells.append(first | {"key": task, "labels": labels, "details": dict.fromkeys(names, 3)})
    page = write_report(cells, curves, tmp_path / "r", title="T").index.read_text(encoding="utf-8")
    for what in ("'toy' of task recovery", "'tradeoff' of task safety_utility", "'two_way' of task two_way"):
        assert f"The figure {what}".replace("'", "&#39;") in page
    for what in ("The comparison with the paper", "The contexts of latents", "The replies"):
        assert f"{what} could not be made from stored details" in page
    assert not list((tmp_path / "r").glob("tradeoff*")) and (tmp_path / "r" / "reconstruction.png").is_file()


def test_a_figure_that_fails_only_when_it_is_drawn_leaves_a_sentence(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 1)
    arrow = {"name": "$\\broken{$", "sign": 1, "x": 1.0, "y": 1.0, "share": 0.5}
    details = {"plane": {"true": [arrow], "found": []}}
    drawn = {
        **cells[0],
        "key": "f" * 64,
        "labels": {**cells[0]["labels"], "task": "recovery"},
        "details": details,
    }
    report = write_report([*cells, drawn], curves, tmp_path / "r", title="T")
    assert (
        "The figure &#39;toy&#39; of task recovery could not be made from stored details"
        in report.index.read_text()
    )
    assert not list(report.folder.glob("toy*"))
    assert (report.folder / "reconstruction.png").is_file()


# Spreadsheets


@given(st.text(alphabet="'=+-@\t\ra1", max_size=6))
def test_marking_a_formula_as_text_can_be_undone(text: str) -> None:
    marked = as_text(text)
    assert isinstance(marked, str)
    assert not marked.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_text(marked) == text


def test_text_in_csv_is_never_a_formula_and_numbers_stay_numbers(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 2)
    for cell in cells:
        cell["labels"] |= {"model": "=cmd|' /C calc'!A0", "site": "@SUM(1+1)"}
        cell["scores"] = {name: -value for name, value in cell["scores"].items()}
    report = write_report(cells, curves, tmp_path / "r", title="T")
    for file in report.folder.glob("*.csv"):
        rows = list(csv.reader(file.read_text().splitlines()))
        assert any("'=cmd" in cell for row in rows for cell in row), file.name
        assert not [c for row in rows for c in row if c.startswith(("=", "+", "@"))], file.name
    pd.testing.assert_frame_equal(read_tidy(report.folder / "data.csv"), tidy(cells))
    assert (pd.read_csv(report.folder / "data.csv")["value"] < 0).all()
    write_tidy(read_tidy(report.folder / "data.csv"), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (report.folder / "data.csv").read_bytes()


# Characters that act


def test_characters_that_act_are_visible_everywhere(tmp_path: Path) -> None:
    acting = "a\x00b\x1b[31mc\u202ed\u2066e\x9bf\r\udc80"
    cells, curves = fake_run(("topk",), (8,), 2)
    cells[0] |= {"status": "failed", "scores": {}, "reason": acting}
    for cell in cells:
        cell["labels"]["model"] = "tiny\x1b]0;title\x07"
        cell["metrics"] = [
            m | {"description": acting, "title": f"t\u202e{m['name']}"} for m in cell["metrics"]
        ]
    report = write_report(cells, curves, tmp_path / "r", title=acting, footnotes=[acting])
    texts = {file.name: file.read_text() for file in report.folder.glob("*.*") if file.suffix in SUFFIXES}
    for name, text in (texts | {"terminal": report.text()}).items():
        assert not set(text) & set("\x00\x1b\u202e\u2066\x9b\x07\r\udc80"), name
    assert "a␀b␛[31mc&lt;U+202E&gt;d" in texts["index.html"]
    assert "a␀b␛[31mc<U+202E>d" in report.text()


SUFFIXES = {".html", ".md", ".tex", ".csv", ".json"}


@given(st.text())
def test_visible_text_can_be_written_and_holds_nothing_that_acts(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert all(char.isprintable() or char in "\n\t" or not char.isascii() for char in shown)
    assert visible(shown) == shown
    assert all_visible({text: [text, 1, None]}) == {shown: [shown, 1, None]}


def test_ordinary_text_is_handed_back_itself() -> None:
    plain = {"a": ["é\n\t↑", 1.5, {"b": None}], "c\\": "d"}
    assert all_visible(plain) is plain
