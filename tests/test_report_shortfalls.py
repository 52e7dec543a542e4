"""What a run lacks, on the page: cells without values by reason, and preconditions that were not met."""

from pathlib import Path
from typing import Any

from test_preconditions import F1, absorbed, valid_if
from test_report_files import Tags, fake_run

from abench.report import write_report
from abench.report.shortfalls import causes, causes_sentence, unmet_preconditions
from abench.report.style import NO_STYLES


def failed(number: int, reason: str, status: str = "failed") -> list[dict[str, Any]]:
    cells, _ = fake_run(("topk",), (8,), number)
    core = [cell for cell in cells if cell["labels"]["task"] == "core"]
    return [cell | {"status": status, "scores": {}, "reason": reason} for cell in core]


def test_cells_are_grouped_by_reason_failures_first() -> None:
    cells = [*failed(2, "No data.", "skipped"), *failed(25, "It broke."), *failed(1, "Out of memory.")]
    entries = causes(cells, NO_STYLES)
    assert [(each["status"], each["number"]) for each in entries] == [
        ("failed", 25),
        ("failed", 1),
        ("skipped", 2),
    ]
    assert entries[0]["reason"] == "Failed: It broke."
    assert entries[0]["saes"].endswith("; and 5 others")
    assert entries[1]["saes"] == "tiny, blocks.2.hook_resid_post: TopK, k = 8, 2048 latents, seed 0"
    assert causes_sentence(entries) == "26 cells failed for 2 reasons, 2 cells were skipped for 1 reason."
    assert causes_sentence([]) == ""


def test_unmet_preconditions_are_listed_with_their_measured_values() -> None:
    cells = [absorbed(0.7, 0.1), absorbed(0.7, 0.3, variant="abstopk"), absorbed(0.7, 0.9, variant="relu")]
    (entry,) = unmet_preconditions(cells, NO_STYLES)
    assert (entry["task"], entry["values"], entry["at_least"]) == ("absorption", "0.10 to 0.30", "0.50")
    assert "AbsTopK" in entry["saes"] and "ReLU" not in entry["saes"].replace("JumpReLU", "")


def test_the_page_opens_failures_and_escapes_what_they_say(tmp_path: Path) -> None:
    hostile = '<img src=x onerror=alert(1)> "q" שלום'
    cells = [
        *failed(1, hostile),
        absorbed(0.7, 0.1) | {"valid_if": [valid_if(0.1, F1, description="<i>x</i>")]},
    ]
    text = write_report(cells, {}, tmp_path / "r", title="T").index.read_text(encoding="utf-8")
    page = Tags(text)
    assert "<details open>\n<summary>Cells without values" in text
    assert f"Failed: {hostile}" in page.text and "1 cell failed for 1 reason." in page.text
    assert "Preconditions that were not met" in page.text and "img" not in page.tags and "i" not in page.tags
