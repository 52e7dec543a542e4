"""The tables of the page in a browser: sorting, columns, filters, widths, strange names, many rows."""

import time
from pathlib import Path
from typing import Any

import pytest
from browser import WIDTHS, opened
from paper_cells import run_of
from test_report_files import fake_cell, fake_run
from test_report_safety import outcome, record, with_both_rules

from abench.report import VariantStyle, write_report
from abench.report.style import VARIANTS

HOSTILE = """</script><img src=x onerror="document.title='hit'"> "quoted" 'q' & אבג שלום"""
ROWS = "table[data-labels] >> nth={} >> tbody[data-k] tr:visible"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two sites."""
    cells, curves = fake_run()
    others, more = fake_run(("abstopk", "topk"), (8,), 2, site="blocks.3.hook_resid_post")
    folder = tmp_path_factory.mktemp("page") / "r"
    return write_report([*cells, *others], curves | more, folder, title="Two sites").index


def column(page: Any, name: str, table: int = 0) -> list[str]:
    """What the shown rows of a table hold in a column, from top to bottom."""
    heads = page.locator("table[data-labels]").nth(table).locator("thead tr:last-child > *").all_inner_texts()
    place = [head.split(" ↑")[0].split("\u00a0")[0].strip() for head in heads].index(name)
    return [
        row.locator(":scope > *").nth(place).inner_text() for row in page.locator(ROWS.format(table)).all()
    ]


def values(page: Any, name: str) -> list[float]:
    return [float(text.split()[0]) for text in column(page, name)]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_click_sorts_within_each_site_and_a_third_restores(chromium: Any, index: Path, width: int) -> None:
    with opened(chromium, index, width=width) as page:
        before = column(page, "nMSE")
        head = page.locator("th", has_text="nMSE").first
        head.locator("button").click()
        found = values(page, "nMSE")
        assert found[:6] == sorted(found[:6]) and found[6:] == sorted(found[6:])  # lower is better
        assert head.get_attribute("aria-sort") == "ascending"
        assert "ascending" in page.locator("#said").inner_text()
        head.locator("button").click()
        assert values(page, "nMSE")[:6] == sorted(found[:6], reverse=True)
        head.locator("button").click()
        assert column(page, "nMSE") == before
        assert head.get_attribute("aria-sort") is None


def test_the_keyboard_sorts_and_opens_the_filter(chromium: Any, index: Path) -> None:
    with opened(chromium, index) as page:
        button = page.locator("th", has_text="Loss recovered").first.locator("button")
        button.focus()
        page.keyboard.press("Enter")
        found = values(page, "Loss recovered")
        assert found[:6] == sorted(found[:6], reverse=True)
        page.locator("#filters summary", has_text="Variant").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert "AbsTopK" not in column(page, "SAE")
        page.keyboard.press("Escape")
        assert page.locator("#filters details[open]").count() == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_filters_and_columns(chromium: Any, index: Path, width: int) -> None:
    with opened(chromium, index, width=width) as page:
        page.locator("#filters summary", has_text="Site").click()
        page.locator("#filters label", has_text="blocks.3").click()
        assert page.locator("tbody.heading:visible", has_text="blocks.3").count() == 0
        assert len(column(page, "SAE")) == 6
        page.keyboard.press("Escape")
        page.locator("#filters summary", has_text="k").last.click()
        page.locator("#filters label", has_text="32").click()
        assert column(page, "k") == ["8", "8", "8"]
        page.keyboard.press("Escape")
        page.locator("details.pick summary", has_text="Columns").first.click()
        page.locator("details.pick label", has_text="L0").first.click()
        assert (
            page.locator("table[data-labels]").first.locator("td:visible, thead th:visible").count()
            == 4 * 4 + 1
        )
        # The page is never wider than the window; wide tables scroll within themselves.
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_headings_of_groups_stay_in_view_and_figures_stay_readable(
    chromium: Any, tmp_path: Path
) -> None:
    cell = with_both_rules(record("topk", 0, outcome(0.68, 1.0)))
    report = write_report([cell], {}, tmp_path / "r", title="T")
    with opened(chromium, report.index, width=400, java_script_enabled=False) as page:
        group = page.locator("thead .task span", has_text="coherent replies")
        assert group.bounding_box()["x"] < 400 < group.locator("..").bounding_box()["width"] / 2
        image = page.locator("figure img").first
        whole = image.evaluate("image => image.naturalWidth") * 96 / 160
        assert image.bounding_box()["width"] >= 0.59 * whole > 368
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_tables_have_names_and_headings_for_screen_readers(chromium: Any, index: Path) -> None:
    with opened(chromium, index) as page:
        table = page.get_by_role("table", name="core", exact=True)
        assert table.get_by_role("columnheader", name="nMSE").count() == 1
        assert table.get_by_role("rowheader", name="AbsTopK").count() == 3
        assert page.get_by_role("region", name="core", exact=True).get_attribute("tabindex") == "0"


def test_without_scripts_the_page_shows_the_tables_and_figures(chromium: Any, index: Path) -> None:
    with opened(chromium, index, java_script_enabled=False) as page:
        assert len(column(page, "SAE")) == 8
        assert page.locator("button:visible, #filters:visible").count() == 0
        assert page.locator("figure img:visible").count() == page.locator("figure").count() > 1


def test_colours_follow_the_system_and_print_has_no_controls(chromium: Any, index: Path) -> None:
    with opened(chromium, index, color_scheme="dark") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(ground) == "rgb(20, 23, 27)"
        page.emulate_media(media="print")
        assert page.locator("#filters:visible, details.pick:visible").count() == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_names_with_markup_quotes_and_right_to_left_text_stay_text(
    chromium: Any, tmp_path: Path, width: int
) -> None:
    cells, curves = fake_run(("abstopk", "mine"), (8,), 1)
    for cell in cells:
        cell["labels"]["model"] = HOSTILE
    styles = {"mine": VariantStyle(HOSTILE, "#123456", "o")}
    report = write_report(cells, curves, tmp_path / "r", title=HOSTILE, styles=styles)
    with opened(chromium, report.index, width=width) as page:
        assert page.title() == HOSTILE
        assert column(page, "SAE") == ["AbsTopK", HOSTILE]
        page.locator("#filters summary", has_text="Variant").click()
        assert HOSTILE in page.locator("#filters label").all_inner_texts()[-1]
        page.locator("#filters label").last.click()
        assert column(page, "SAE") == ["AbsTopK"]
        assert page.locator("img[src=x]").count() == 0


def seconds_to_usable(page: Any) -> float:
    """From the page's arrival until its scripts have run, as the browser measures it."""
    arrived, usable = (
        page.evaluate(f"performance.getEntriesByType('navigation')[0].{name}")
        for name in ("responseEnd", "domContentLoadedEventEnd")
    )
    return float(usable - arrived) / 1000


def test_a_small_report_is_small_and_usable_at_once(chromium: Any, index: Path) -> None:
    assert index.stat().st_size < 5e6
    with opened(chromium, index) as page:
        assert seconds_to_usable(page) < 5  # 0.1 s on an idle core; tests share theirs


@pytest.mark.slow
def test_ten_thousand_cells_are_one_page_of_some_megabytes(chromium: Any, tmp_path: Path) -> None:
    cells = run_of(tuple(VARIANTS), (4, 8, 16, 32, 64), 9)
    cells += run_of(tuple(VARIANTS), (4, 8, 16, 32, 64), 9, site="blocks.3.hook_resid_post")
    assert len(cells) > 9_000
    report = write_report(cells, {}, tmp_path / "r", title="T")
    assert report.index.stat().st_size < 8e6
    with opened(chromium, report.index) as page:
        assert seconds_to_usable(page) < 15  # 0.3 s on an idle core


@pytest.mark.slow
def test_ten_thousand_rows(chromium: Any, tmp_path: Path) -> None:
    labels = {"model": "tiny", "site": "s", "seed": 0, "task": "scr", "view": "native"}
    cells = [
        fake_cell(
            {**labels, "variant": "topk", "k": k, "width": width}, {"scr": ((k * 7919 + width) % 1009) / 1009}
        )
        for k in range(1, 101)
        for width in range(100)
    ]
    report = write_report(cells, {}, tmp_path / "r", title="T")
    with opened(chromium, report.index) as page:
        assert page.evaluate("document.querySelectorAll('tbody[data-k] tr').length") == 10_000
        started = time.monotonic()
        page.locator("th", has_text="SCR").locator("button").click()
        texts = page.locator("tbody[data-k] tr td:last-child").all_inner_texts()
        assert time.monotonic() - started < 30
        found = [float(text) for text in texts]
        assert found == sorted(found, reverse=True)
        page.locator("#filters summary", has_text="k").click()
        page.locator("#filters label", has_text="100").click()
        assert page.locator("tbody[data-k] tr:visible").count() == 9_900
