"""From records to numbers and tables: nothing averaged that should not be, nothing hidden."""

import math
import random
import re
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abench.errors import UserError
from abench.report import COLUMNS, read_tidy, summarise, tidy
from abench.report.build import build_tables
from abench.report.cells import decimals_for, number
from abench.report.frame import write_tidy
from abench.report.latex import escape, latex
from abench.report.render import markdown, numbers_csv, plain
from abench.report.tables import TableCell, Tables

LABELS = {
    "model": "tiny",
    "site": "blocks.2",
    "variant": "topk",
    "k": 8,
    "width": 64,
    "seed": 0,
    "task": "core",
    "task_version": "1",
    "view": "native",
}


def cell(score: float | None = None, *, better: bool | None = True, **fields: Any) -> dict[str, Any]:
    """One cell with one headline metric `m`; keyword arguments are labels, or fields of the record."""
    labels = LABELS | {name: fields.pop(name) for name in list(fields) if name in LABELS}
    metric = {"name": "m", "title": "M", "description": "It.", "higher_is_better": better, "headline": True}
    done = score is not None
    return {
        "schema": 1,
        "key": repr(sorted(labels.items())),
        "status": "done" if done else "failed",
        "labels": labels,
        "metrics": [metric],
        "scores": {"m": score} if done else {},
        "reason": None,
        "limited": False,
        "sae_key": "s",
        "provenance": {},
    } | fields


def seeds(scores: list[float], **fields: Any) -> list[dict[str, Any]]:
    return [cell(score, seed=seed, **fields) for seed, score in enumerate(scores)]


def only(tables: Tables) -> TableCell:
    (found,) = tables.wide.cells()
    return found


def bold(records: list[dict[str, Any]]) -> set[tuple[int, str]]:
    rows = build_tables(records).wide.rows()
    return {(row.k, row.title) for row in rows if row.cells[0].bold}


# Tidy frame and summary


def test_tidy_has_one_row_per_declared_metric_and_no_value_unless_done() -> None:
    extra = {"name": "l0", "title": "L0", "description": "", "higher_is_better": None, "headline": False}
    record = cell(0.5)
    record |= {"metrics": [*record["metrics"], extra], "scores": {"m": 0.5, "l0": 8.0}}
    frame = tidy([cell(status="skipped", reason="no questions", seed=1), record])
    assert tuple(frame.columns) == COLUMNS
    assert frame[["seed", "metric", "status"]].to_numpy().tolist() == [
        [0, "l0", "done"],
        [0, "m", "done"],
        [1, "m", "skipped"],
    ]
    assert frame["value"].tolist()[:2] == [8.0, 0.5]
    assert math.isnan(frame["value"][2])
    assert pd.isna(frame["higher_is_better"][0])


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_data_csv_depends_on_numbers_alone_and_keeps_every_bit(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], shuffler: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    records = [*seeds(scores), cell(status="missing", variant="abstopk")]
    write_tidy(tidy(records), folder / "a.csv")
    shuffler.shuffle(records)
    write_tidy(tidy(records), folder / "b.csv")
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    read = read_tidy(folder / "a.csv")
    pd.testing.assert_frame_equal(read, tidy(records), check_exact=True)
    assert [value.hex() for value in read["value"].dropna()] == [float(score).hex() for score in scores]


def test_read_tidy_names_the_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("model,score\na,1\n")
    with pytest.raises(UserError, match=r"other\.csv is not a report's data\.csv"):
        read_tidy(path)


def test_two_cells_with_the_same_labels_are_not_averaged() -> None:
    with pytest.raises(UserError, match=r"same labels.*variant topk"):
        tidy([cell(0.1), cell(0.2, key="another")])


def test_mean_and_sample_standard_deviation_over_seeds() -> None:
    scores = [0.31, 0.35, 0.42]
    (row,) = summarise(tidy(seeds(scores))).itertuples()
    assert row.mean == pytest.approx(statistics.mean(scores), rel=1e-15)
    assert row.sd == pytest.approx(statistics.stdev(scores), rel=1e-12)
    assert (row.n, row.N) == (3, 3)
    assert only(build_tables(seeds(scores))).sd_text == "0.056"


def test_one_seed_has_no_standard_deviation() -> None:
    tables = build_tables([cell(0.5)])
    assert only(tables).sd is None
    assert "±" not in re.sub("A value without ±.*", "", markdown(tables))


def test_no_mean_over_fewer_seeds_than_planned() -> None:
    records = [*seeds([0.1, 0.2]), cell(seed=2, reason="Out of memory.")]
    (row,) = summarise(tidy(records)).itertuples()
    assert math.isnan(row.mean)
    assert math.isnan(row.sd)
    tables = build_tables(records)
    assert only(tables).mean is None
    assert only(tables).text == "2/3"
    assert tables.numbered == ("Failed: Out of memory.",)
    assert "2/3 [1]" in markdown(tables)
    assert "n/N" in markdown(tables)


# What stands where


@pytest.mark.parametrize(
    ("status", "reason", "note"),
    [
        ("failed", "The loss is\nnot a number.", "Failed: The loss is not a number."),
        ("skipped", "No questions.", "Skipped: No questions."),
        ("missing", None, "Not computed yet."),
        ("failed", None, "Failed: no reason was recorded."),
    ],
)
def test_a_cell_without_value_says_why(status: str, reason: str | None, note: str) -> None:
    records = [cell(status=status, reason=reason), cell(0.5, variant="relu")]
    tables = build_tables(records)
    assert tables.numbered == (note,)
    assert "— [1]" in markdown(tables)
    assert f"[1] {note}" in plain(tables)
    assert r"\textemdash{}\textsuperscript{1}" in latex(tables)


def test_notes_are_numbered_as_the_table_is_read_and_shared_by_equal_reasons() -> None:
    records = [
        cell(variant="relu", reason="Late."),
        cell(variant="abstopk", reason="Early."),
        cell(variant="topk", reason="Late."),
    ]
    tables = build_tables(records)
    assert tables.numbered == ("Failed: Early.", "Failed: Late.")
    assert [row.cells[0].marks for row in tables.wide.sections[0].rows] == [(1,), (2,), (2,)]


@pytest.mark.parametrize(("better", "arrow"), [(True, "M ↑"), (False, "M ↓"), (None, "M")])
def test_the_arrow_is_the_declared_direction(better: bool | None, arrow: str) -> None:
    tables = build_tables([cell(0.5, better=better)])
    assert tables.wide.columns[0].label == f"core {arrow}"
    assert latex(tables).count("arrow$") == ("↑" in arrow or "↓" in arrow)


@pytest.mark.parametrize(
    ("better", "scores", "best"),
    [
        (True, {"topk": 0.5, "abstopk": 0.6, "relu": 0.4}, {"AbsTopK"}),
        (False, {"topk": 0.5, "abstopk": 0.6, "relu": 0.4}, {"ReLU"}),
        (None, {"topk": 0.5, "abstopk": 0.6}, set()),
        (True, {"topk": 0.6, "abstopk": 0.6, "relu": 0.4}, {"TopK", "AbsTopK"}),
        (True, {"topk": 0.60001, "abstopk": 0.60002, "relu": 0.4}, {"TopK", "AbsTopK"}),
        (True, {"topk": 0.5, "abstopk": 0.5}, set()),
        (True, {"topk": 0.5}, set()),
        (True, {"topk": -0.5, "abstopk": -0.1}, {"AbsTopK"}),
    ],
)
def test_bold_is_the_best_as_printed(better: bool | None, scores: dict[str, float], best: set[str]) -> None:
    records = [cell(score, better=better, variant=variant) for variant, score in scores.items()]
    assert bold(records) == {(8, title) for title in best}


def test_bold_compares_at_equal_k_and_only_complete_means() -> None:
    at_8 = [cell(0.1, variant="topk", seed=1), cell(0.2, variant="abstopk", seed=1)]
    incomplete = [*seeds([0.9], variant="relu"), cell(variant="relu", seed=1)]
    at_16 = [cell(0.7, variant="topk", k=16)]
    assert bold([*at_8, *incomplete, *at_16]) == {(8, "AbsTopK")}


def test_one_variant_is_never_best_of_itself() -> None:
    assert bold([cell(0.5), cell(0.6, width=128)]) == set()


def test_views_and_versions_are_named_where_there_are_two() -> None:
    signed = [cell(0.5, variant="abstopk", view=view) for view in ("native", "split")]
    tables = build_tables([*signed, cell(0.4), cell(0.3, task_version="2"), cell(0.3, task="scr")])
    titles = [row.title for row in tables.wide.sections[0].rows]
    assert titles == ["AbsTopK (native)", "AbsTopK (split)", "TopK"]
    assert [column.label for column in tables.wide.columns] == ["core v1 M ↑", "core v2 M ↑", "scr M ↑"]
    assert tables.wide.sections[0].rows[1].cells[1] == TableCell()


def test_widths_are_shown_where_they_differ() -> None:
    assert "latents" not in markdown(build_tables([cell(0.5)]))
    text = markdown(build_tables([cell(0.5), cell(0.6, width=128)]))
    assert re.search(r"\| +8 \| TopK \| +128 \|", text)


def test_a_task_with_other_seeds_shows_its_own_n() -> None:
    tables = build_tables([*seeds([0.1, 0.2, 0.3]), *seeds([0.1, 0.2], task="scr")])
    assert [cell.seeds_text for cell in tables.wide.cells()] == ["", "n = 2"]
    assert [[row.seeds for row in table.rows()] for table in tables.shown] == [[3], [2]]
    assert "(n =" not in markdown(tables)


def test_several_tasks_have_a_table_each_with_their_own_rows_and_one_list_of_notes() -> None:
    signed = [cell(0.5, variant="abstopk", task="scr", view=view) for view in ("native", "split")]
    tables = build_tables(
        [*signed, cell(0.4), cell(variant="abstopk", reason="Late."), cell(0.3, task="scr")]
    )
    assert [table.heading for table in tables.shown] == ["core", "scr"]
    titles = [[row.title for row in table.rows()] for table in tables.shown]
    assert titles == [["AbsTopK", "TopK"], ["AbsTopK (native)", "AbsTopK (split)", "TopK"]]
    for text in (markdown(tables), plain(tables)):
        assert (
            text.index("core: tiny, blocks.2") < text.index("scr: tiny, blocks.2") < text.index("[1] Failed")
        )
        assert text.count("Late.") == 1
    assert "core M" not in markdown(tables)


def test_a_single_task_needs_no_heading() -> None:
    assert [table.heading for table in build_tables([cell(0.5)]).shown] == [""]
    assert "## tiny, blocks.2" in markdown(build_tables([cell(0.5)]))


def test_limited_runs_say_so() -> None:
    every = build_tables([cell(0.5, limited=True)])
    assert "Limited run: every value" in every.general[0]
    assert every.numbered == ()
    some = build_tables([cell(0.5, limited=True), cell(0.6, variant="relu")])
    assert "1 of 2 cells" in some.general[0]
    assert some.wide.sections[0].rows[0].cells[0].marks == (1,)
    assert not any("Limited" in note for note in build_tables([cell(0.5)]).general)


def test_a_missed_l0_is_pointed_out() -> None:
    metric = {"name": "l0", "title": "L0", "description": "", "higher_is_better": None, "headline": True}
    records = [
        cell(l0, variant=v, metrics=[metric], scores={"l0": l0}) for v, l0 in (("topk", 8.0), ("relu", 9.9))
    ]
    (note,) = (note for note in build_tables(records).general if "L0" in note)
    assert "ReLU" in note
    assert "TopK" not in note


def test_own_footnotes_come_last() -> None:
    assert build_tables([cell(0.5)], footnotes=["Judge: rules."]).general[-1] == "Judge: rules."


def test_nothing_to_report_is_the_users_error() -> None:
    with pytest.raises(UserError, match="nothing to report"):
        build_tables([])


# Rendering


@pytest.mark.parametrize(
    ("means", "printed"),
    [
        ([0.97, 0.5], ["0.970", "0.500"]),
        ([0.5, 0.0031], ["0.5000", "0.0031"]),
        ([75.21], ["75.2"]),
        ([12345.6], ["12346"]),
        ([2e-9], ["2.00e-09"]),
        ([-0.0001, 0.5], ["-0.0001", "0.5000"]),
        ([0.0], ["0.000"]),
    ],
)
def test_numbers_keep_the_digits_that_tell_them_apart(means: list[float], printed: list[str]) -> None:
    assert [number(mean, decimals_for(means)) for mean in means] == printed


def test_a_value_that_rounds_to_zero_has_no_sign() -> None:
    assert number(-0.0001, 3) == "0.000"


def test_markdown_is_aligned_and_escaped() -> None:
    records = [cell(0.5, variant="my_sae|x", reason=None), cell(0.25, variant="relu", k=16)]
    text = markdown(build_tables(records, title="A *b*"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in rows}) == 1
    assert r"my\_sae\|x" in text
    assert text.startswith(r"# A \*b\*")


def test_table_csv_is_unrounded() -> None:
    scores = [1 / 3, 2 / 7]
    header, row = numbers_csv(build_tables(seeds(scores)).wide).splitlines()
    names = ",".join(f"core.m {part}" for part in ("mean", "sd", "n", "N", "low", "high"))
    assert header == f"model,site,k,variant,width,view,{names}"
    (found,) = summarise(tidy(seeds(scores))).itertuples()
    numbers = [*map(repr, (found.mean, found.sd)), "2", "2", *map(repr, (found.low, found.high))]
    assert row == ",".join(["tiny,blocks.2,8,topk,64,native", *numbers])


def test_latex_escapes_and_has_the_same_columns_in_every_line() -> None:
    reason = r"50% of A_1 & B#2 cost $3 {~^\} --limit 中"
    text = latex(
        build_tables([*seeds([0.1, 0.2]), cell(variant="my_sae", reason=reason)], title="T_1 & more")
    )
    assert r"50\% of A\_1 \& B\#2 cost \$3 \{\textasciitilde{}\textasciicircum{}\textbackslash{}\}" in text
    assert r"-{}-limit \texttt{U+4E2D}" in text
    assert r"\caption{T\_1 \& more}" in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "{l}" not in line]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}
    assert rows[2].startswith("8 & TopK & 2 & $0.150 \\pm 0.071$")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended)
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")


@given(st.text(max_size=40))
def test_latex_never_lets_a_special_character_through(text: str) -> None:
    bare = re.sub(r"\\[&%$#_{}]|\$[^$]+\$|\\text\w+\{[^{}]*\}|\\dots\{\}|-\{\}", "", escape(text))
    assert not set(bare) & set("&%$#_{}~^\\<>")
    assert all(char.isascii() or "À" <= char <= "ÿ" for char in bare)


def test_the_console_table_fits_the_terminal() -> None:
    tasks = [f"task_{i}" for i in range(12)]
    records = [
        r for task in tasks for v in ("topk", "abstopk") for r in seeds([0.1, 0.2], task=task, variant=v)
    ]
    text = plain(build_tables(records, title="T", footnotes=["long " * 60]), width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert all(task in text for task in tasks)
    assert "\n " not in text.split("long")[0].split("Mean")[-1]


def test_the_console_table_stars_the_best() -> None:
    text = plain(build_tables([cell(0.5), cell(0.6, variant="abstopk")]))
    assert re.search(r"AbsTopK +1 +\*0\.600", text)
    assert "*0.500" not in text
