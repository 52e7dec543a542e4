"""The figure of tasks: every bar is a row of its CSV, and nothing is drawn where there is no value."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from paper_cells import run_of

from abench.report import write_report
from abench.report.bars import COLUMNS, task_bars
from abench.report.build import build_tables
from abench.report.style import VARIANTS
from abench.report.tables import Table
from abench.report.task_figure import LOWEST, PAPER_MARK, draw_tasks

QWEN = {"model": "qwen3-4b", "site": "blocks.18.hook_resid_post"}


def table_of(records: list[dict[str, Any]]) -> Table:
    table = build_tables(records).paper
    assert table is not None
    return table


def panels(records: list[dict[str, Any]]) -> list[Axes]:
    table = table_of(records)
    return list(draw_tasks(task_bars(table), table.columns, "heading").axes)


def heights(axes: Axes) -> list[float]:
    return [bar.get_height() for each in axes.containers if isinstance(each, BarContainer) for bar in each]


def error_bars(axes: Axes) -> int:
    found = (each for each in axes.containers if isinstance(each, ErrorbarContainer))
    return sum(len(bars.get_segments()) for each in found for bars in each.lines[2])


def legend(axes: Axes) -> dict[str, Any]:
    (found,) = axes.figure.legends
    texts = (text.get_text() for text in found.get_texts())
    return dict(zip(texts, found.legend_handles, strict=True))


def test_every_bar_is_a_row_of_the_csv_beside_the_figure(tmp_path: Path) -> None:
    records = run_of(ks=(8, 16))
    lost = next(r for r in records if r["labels"]["variant"] == "topk" and r["labels"]["task"] == "ravel")
    lost |= {"status": "failed", "scores": {}, "reason": "Out of memory."}
    write_report(records, {}, tmp_path / "r", title="T")
    frame = pd.read_csv(tmp_path / "r" / "task_scores.csv", float_precision="round_trip")
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 6 * 4 * 2
    (absent,) = frame[frame["mean"].isna()].itertuples()
    assert (absent.variant, absent.task, absent.n, absent.N) == ("topk", "ravel", 2, 3)
    for axes, (_, bars) in zip(panels(records), frame.groupby("k"), strict=True):
        assert sorted(heights(axes)) == sorted(bars["mean"].dropna())
        assert error_bars(axes) == bars["sd"].notna().sum() == len(heights(axes))
    assert [text.get_text() for text in panels(records)[0].texts] == ["2/3"]


def test_the_numbers_are_means_over_seeds_of_what_is_shown() -> None:
    records = run_of()
    values = [
        1 - r["scores"]["mean_absorption_fraction_score"]
        for r in records
        if (r["labels"]["task"], r["labels"]["variant"]) == ("absorption", "topk")
    ]
    frame = task_bars(table_of(records))
    (bar,) = frame[(frame["task"] == "absorption") & (frame["variant"] == "topk")].itertuples()
    assert bar.mean == pytest.approx(np.mean(values))
    assert bar.sd == pytest.approx(np.std(values, ddof=1))
    assert (bar.shown, bar.higher_is_better, bar.n, bar.N) == ("1 - score", True, 3, 3)


def test_one_seed_has_no_error_bar_and_the_panel_says_so() -> None:
    (axes,) = panels(run_of(seeds=1))
    assert error_bars(axes) == 0
    assert axes.get_title() == "k = 8, n = 1 seed, hence no error bars"
    assert panels(run_of())[0].get_title() == "k = 8, n = 3 seeds"


def test_seeds_that_differ_are_given_as_a_range() -> None:
    (axes,) = panels([*run_of(tasks=("scr",)), *run_of(seeds=1, tasks=("tpp",))])
    assert axes.get_title() == "k = 8, n = 1–3 seeds"


def test_colours_are_the_variants_and_the_split_view_is_hatched() -> None:
    (axes,) = panels(run_of(tuple(VARIANTS), seeds=1))
    handles = legend(axes)
    assert len(handles) == len(VARIANTS) + 6
    for style in VARIANTS.values():
        mine = [h for label, h in handles.items() if label.removesuffix(" (native)") == style.title]
        assert [to_hex(h.get_facecolor()).upper() for h in mine] == [style.colour]
        assert [h.get_hatch() or "" for h in mine] == [""]
    assert handles["AbsTopK (split)"].get_hatch()
    assert to_hex(handles["AbsTopK (split)"].get_facecolor()) == to_hex(VARIANTS["abstopk"].colour)


def test_bars_do_not_overlap_and_stand_at_their_task() -> None:
    (axes,) = panels(run_of(tuple(VARIANTS)))
    bars = sorted((b.get_x(), b.get_x() + b.get_width()) for c in axes.containers for b in patches(c))
    assert all(right <= left + 1e-9 for (_, right), (left, _) in pairwise(bars))
    assert {round((left + right) / 2) for left, right in bars} == set(range(6))


def patches(container: Any) -> list[Any]:
    return list(container) if isinstance(container, BarContainer) else []


def test_widths_of_a_variant_are_told_apart() -> None:
    (axes,) = panels([*run_of(("topk",)), *run_of(("topk",), width=1024)])
    handles = legend(axes)
    assert set(handles) == {"TopK, 64 latents", "TopK, 1,024 latents"}
    assert len({to_hex(handle.get_facecolor()) for handle in handles.values()}) == 2


def test_a_bar_far_below_zero_is_cut_and_labelled() -> None:
    records = run_of()
    for record in records:
        if record["labels"]["task"] == "scr" and record["labels"]["variant"] == "topk":
            record["scores"] = {"scr_metric_threshold_20": -2.345}
    (axes,) = panels(records)
    assert axes.get_ylim()[0] == LOWEST
    assert min(heights(axes)) == -2.345
    assert [text.get_text() for text in axes.texts] == ["-2.35"]


def test_the_papers_numbers_are_marked_on_the_bars_they_belong_to() -> None:
    (axes,) = panels(run_of(("abstopk", "relu"), **QWEN))
    marks = [line for line in axes.lines if line.get_marker() == PAPER_MARK["marker"]]
    assert [list(line.get_ydata()) for line in marks] == [[0.35, 0.36, 0.81]]
    middles = [b.get_x() + b.get_width() / 2 for b in axes.patches if b.get_hatch() in (None, "")]
    assert all(np.isclose(x, middles).any() for x in marks[0].get_xdata())
    assert "the paper's number" in legend(axes)
    assert "the paper's number" not in legend(panels(run_of())[0])


def test_a_task_without_values_keeps_its_place() -> None:
    records = run_of()
    for record in records:
        if record["labels"]["task"] == "unlearning":
            record |= {"status": "skipped", "scores": {}, "reason": "It knows nothing."}
    (axes,) = panels(records)
    assert axes.get_xticklabels()[0].get_text() == "Unlearning\n1 − score ↓"
    assert [text.get_text() for text in axes.texts] == ["—"] * 4
    assert len(heights(axes)) == 5 * 4


def test_without_a_value_there_is_no_figure(tmp_path: Path) -> None:
    records = [r | {"status": "missing", "scores": {}} for r in run_of()]
    write_report(records, {}, tmp_path / "r", title="T")
    assert not list((tmp_path / "r").glob("task_scores*"))
    assert "not computed" in (tmp_path / "r" / "index.html").read_text(encoding="utf-8").lower()


def test_models_and_sites_get_figures_of_their_own_and_old_ones_go(tmp_path: Path) -> None:
    two = [*run_of(("topk",), seeds=1), *run_of(("topk",), seeds=1, **QWEN)]
    write_report(two, {}, tmp_path / "r", title="T")
    names = {path.name for path in (tmp_path / "r").glob("*.png")}
    assert names == {
        "task_scores-tiny-blocks.2.hook_resid_post.png",
        "task_scores-qwen3-4b-blocks.18.hook_resid_post.png",
    }
    write_report(two[:6], {}, tmp_path / "r", title="T")
    assert {path.name for path in (tmp_path / "r").glob("*.png")} == {"task_scores.png"}


def test_equal_numbers_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    records = run_of(("topk", "abstopk"), seeds=2)
    write_report(records, {}, tmp_path / "a", title="T")
    random.Random(1).shuffle(records)
    write_report(records, {}, tmp_path / "b", title="T")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_the_page_shows_the_figure_below_the_table(tmp_path: Path) -> None:
    records = run_of(("abstopk", "topk"), **QWEN)
    records[0] |= {"status": "failed", "scores": {}, "reason": "Broke at <script>."}
    write_report(records, {}, tmp_path / "r", title="T")
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    order = [
        "<h3>Tasks as in the paper</h3>",
        '<tr class="paper" ',
        "2605.18229",
        "data:image/png",
        "<h3>ravel",
    ]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert page.count("<script") == page.count('<script id="page-')
    # The paper's table and a task's each; a comparison, the paper's numbers beside ours, and the failures.
    assert page.count("<table") == page.count("</table>") == 1 + 3 + 3
