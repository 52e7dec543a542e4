"""The figures of the page: their data, and what a browser shows of them."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser import WIDTHS, opened
from test_report_files import fake_run
from test_report_safety import CELLS

from abench.report import VariantStyle, write_report

HOSTILE = '</script><b>x</b> "q" <!-- שלום'


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells, curves = fake_run(("abstopk", "mine"), (8, 32), 2)
    styles = {"mine": VariantStyle(HOSTILE, "#000000", "d")}
    return write_report(cells, curves, tmp_path_factory.mktemp("page") / "r", title="T", styles=styles).index


def data_of(index: Path) -> Any:
    found = re.search(r'<script id="page-data"[^>]*>(.*?)</script>', index.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_the_data_are_those_of_the_files(index: Path) -> None:
    chart = data_of(index)["charts"]["reconstruction"]
    with (index.parent / "reconstruction.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [panel["y"].split()[0] for panel in chart["panels"]] == ["Training", "Normalised", "Loss"]
    points = {(s["labels"]["variant"], s["labels"]["k"]): s for s in chart["series"] if s["panel"] == 1}
    for row in (row for row in rows if row["panel"] == "nmse"):
        mine = points[row["variant"], row["k"]]
        assert mine["y"] == [pytest.approx(float(row["y"]), rel=1e-5)]
        assert mine["dy"] == [pytest.approx(float(row["y_sd"]), rel=1e-5)]
    curve = next(s for s in chart["series"] if s["mode"] == "lines")
    assert (curve["x"][0], curve["x"][-1]) == (10, 2000)
    assert HOSTILE in {s["name"].split(", k")[0] for s in chart["series"]}


def test_a_long_training_curve_is_thinned_and_keeps_its_ends(tmp_path: Path) -> None:
    cells, _ = fake_run(("topk",), (8,), 1)
    steps = [float(step) for step in range(1, 5001)]
    curves = {cell["sae_key"]: {"step": steps, "mse": steps} for cell in cells}
    chart = data_of(write_report(cells, curves, tmp_path / "r", title="T").index)["charts"]["reconstruction"]
    x = chart["series"][0]["x"]
    assert len(x) == 200 and (x[0], x[-1]) == (1, 5000)


def test_strengths_of_a_tradeoff_are_shown_with_a_gap_between_signs(tmp_path: Path) -> None:
    chart = data_of(write_report(CELLS, {}, tmp_path / "r", title="T").index)["charts"]["tradeoff"]
    series = {each["name"]: each for each in chart["series"]}
    assert {"Original", "DiM"} < set(series)
    assert any("chosen" in text for each in series.values() for text in each["text"])
    for each in chart["series"]:
        signs = [text.startswith("strength −") for text in each["text"]]
        assert each["gaps"] == [i for i in range(1, len(signs)) if signs[i - 1] and not signs[i]]


FIGURE = "figure[data-chart=reconstruction]"


@pytest.mark.parametrize("width", WIDTHS)
def test_hovering_shows_a_value_and_its_name_as_text(chromium: Any, index: Path, width: int) -> None:
    with opened(chromium, index, width=width) as page:
        page.locator(FIGURE).scroll_into_view_if_needed()
        page.wait_for_selector(".chart .scatterlayer .point")
        assert page.locator(f"{FIGURE} img:visible").count() == 0
        seen = []
        for point in page.locator(".chart .scatterlayer .point:visible").all():
            point.hover(force=True)
            page.wait_for_selector(".hoverlayer text")
            seen.append(" ".join(page.locator(".hoverlayer text").all_text_contents()))
        assert any("AbsTopK, k = 8" in text and "±" in text and "n = 2" in text for text in seen)
        assert any(HOSTILE in text for text in seen)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_filters_act_on_figures_and_dark_mode_shows_black_series(chromium: Any, index: Path) -> None:
    with opened(chromium, index, color_scheme="dark") as page:
        page.locator(FIGURE).scroll_into_view_if_needed()
        page.wait_for_selector(".chart .scatterlayer .point")
        before = page.locator(".chart .scatterlayer .trace").count()
        colours = "[...document.querySelectorAll('.scatterlayer .lines path')].map(p => p.style.stroke)"
        assert "rgb(0, 0, 0)" not in page.evaluate(colours)
        page.locator("#filters summary", has_text="Variant").click()
        page.locator("#filters label", has_text="AbsTopK").click()
        traces = page.locator(".chart .scatterlayer .trace")
        traces.nth(before // 2).wait_for(state="detached")  # the first of those that are filtered out
        assert traces.count() == before // 2


def test_without_a_figure_the_page_carries_no_library(tmp_path: Path) -> None:
    cells, _ = fake_run(("topk",), (8,), 1)
    scr = [cell for cell in cells if cell["labels"]["task"] == "scr"]
    assert write_report(scr, {}, tmp_path / "r", title="T").index.stat().st_size < 100_000
