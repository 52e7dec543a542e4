"""The latent browser: what is stored for it, and what a browser shows of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import WIDTHS, opened
from command import Abench
from small_run import SMALL, small_plan
from test_page_figures import data_of
from test_report_files import fake_run

from abench.report import prepare_report, write_prepared
from abench.report.interactive.latents import FULL, latent_data
from abench.report.style import NO_STYLES
from abench.results.store import Store
from abench.runs.latent_contexts import stored_contexts

HOSTILE = '</script><img src=x onerror=alert(1)> "q" שלום'


def excerpt(*tokens: str, peak: int = 1, value: float = 2.0) -> dict[str, Any]:
    values = [0.0] * len(tokens)
    values[peak] = value
    return {"tokens": list(tokens), "values": values, "peak": peak}


def latent(number: int, up: float, down: float, cosine: float, word: str) -> dict[str, Any]:
    return {
        "latent": number,
        "rates": [up, down],
        "opposite": [(number + 1) % 4, cosine],
        "positive": [excerpt("a", word), excerpt("b\n", word, value=1.0)],
        "negative": [excerpt("not", word.upper(), value=-4.0)] if down else [],
    }


CONTEXTS = {
    "asked": 4, "tokens": 1000, "width": 64, "alive": 60, "signed": True,
    "latents": [
        latent(0, 0.10, 0.00, -0.1, " cat"),
        latent(1, 0.02, 0.02, -0.9, " dog"),
        latent(2, 0.50, 0.01, -0.5, HOSTILE),
        latent(3, 0.01, 0.00, -0.2, " catalogue"),
    ],
}  # fmt: skip


def index_of(folder: Path, contexts: Any = CONTEXTS) -> Path:
    cells, curves = fake_run(("abstopk", "topk"), (8,), 1)
    of_each = {cell["sae_key"]: contexts for cell in cells} if contexts else {}
    return write_prepared(prepare_report(cells, title="T"), curves, folder, contexts=of_each).index


def shown(page: Any) -> list[str]:
    return [text.removeprefix("Latent ") for text in page.locator(".latent h4").all_inner_texts()]


def test_contexts_are_packed_without_loss_of_tokens_and_signs() -> None:
    cells, _ = fake_run(("abstopk",), (8,), 1)
    found = latent_data(cells, {cells[0]["sae_key"]: CONTEXTS}, NO_STYLES)
    assert found is not None
    (sae,) = found["saes"]
    number, up, down, opposite, cosine, greatest, positive, negative = sae["latents"][1]
    assert (number, up, down, opposite, cosine, greatest) == (1, 0.02, 0.02, 2, -0.9, 4.0)
    assert [[found["words"][word] for word in each[1]] for each in positive] == [
        ["a", " dog"],
        ["b↵", " dog"],
    ]
    assert [each[2] for each in positive] == [[0, round(FULL / 2)], [0, round(FULL / 4)]]
    assert negative == [[1, [found["words"].index(each) for each in ("not", " DOG")], [0, -FULL]]]
    assert latent_data(cells, {"other": CONTEXTS}, NO_STYLES) is None


@pytest.mark.parametrize("width", WIDTHS)
def test_latents_are_ordered_and_searched(chromium: Any, tmp_path: Path, width: int) -> None:
    with opened(chromium, index_of(tmp_path / "r"), width=width) as page:
        assert shown(page) == ["2", "0", "1", "3"]  # by firing rate
        for order, expected in {
            "sided": "1203",
            "opposite": "1230",
            "number": "0123",
            "rare": "3102",
        }.items():
            page.locator("#latent-order").select_option(order)
            assert "".join(shown(page)) == expected, order
        page.locator("#latent-search").fill("CAT")
        assert shown(page) == ["3", "0"]
        assert "2 of 4 stored latents" in page.locator("#latent-count").inner_text()
        page.locator(".latent button", has_text="latent 1").click()
        assert shown(page) == ["1"]
        assert "rgba(0, 114, 178" in page.locator(".latent .peak").last.get_attribute("style")
        page.locator("#latent-search").fill("שלום")
        assert shown(page) == ["2"]
        assert HOSTILE in page.locator(".latent .context").first.inner_text()
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#filters summary", has_text="Variant").click()
        page.locator("#filters label", has_text="AbsTopK").click()
        assert "TopK" in page.locator("#latent-sae option").inner_text()


def test_hundreds_of_latents_are_shown_in_parts(chromium: Any, tmp_path: Path) -> None:
    many = [latent(number, 0.5 / (number + 1), 0.0, -0.1, f" w{number}") for number in range(500)]
    with opened(chromium, index_of(tmp_path / "r", {**CONTEXTS, "latents": many})) as page:
        assert len(shown(page)) == 20
        page.locator("#latent-more").click()
        assert shown(page) == [str(number) for number in range(40)]


def test_without_contexts_the_page_says_how_to_get_them(tmp_path: Path) -> None:
    text = index_of(tmp_path / "r", None).read_text(encoding="utf-8")
    assert "No contexts of latents are stored" in text and "--latents 200" in text


@pytest.mark.slow
def test_contexts_are_searched_once_and_then_shown_without_torch(abench: Abench, tmp_path: Path) -> None:
    options = [part for name, value in SMALL.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    what = [*options, "--variants", "topk,abstopk", "--results", str(tmp_path)]
    plan = small_plan(variants=("topk", "abstopk"))
    assert abench("run", *what).code == 0
    first = abench("report", *what, "--latents", "30")
    assert first.code == 0 and "contexts of 30 latents of 2 SAEs" in first.err
    stored = stored_contexts(plan, Store.open(tmp_path, create=False))
    assert set(stored) == {sae.key for sae in plan.saes}
    for sae in plan.saes:
        mine = stored[sae.key]
        assert mine["width"] == 64 and 0 < len(mine["latents"]) <= 30
        assert mine["signed"] == (sae.variant.name == "abstopk")
        for each in mine["latents"]:
            peaks = [abs(e["values"][e["peak"]]) for e in each["positive"]]
            assert peaks == sorted(peaks, reverse=True) and sum(each["rates"]) > 0
            assert each["opposite"][0] != each["latent"]
    assert "contexts of" not in abench("report", *what, "--latents", "20").err
    code = "import sys; from abench.cli import main\ntry: main()\nfinally: assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code, "report", *what], check=True, capture_output=True)
    data = data_of(tmp_path / "reports/default/index.html")
    assert [len(sae["latents"]) for sae in data["latents"]["saes"]] == [
        len(stored[sae.key]["latents"]) for sae in plan.saes
    ]
