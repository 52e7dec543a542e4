"""The table of safety and utility, and its figure, from records with known outcomes."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from abench.report import write_report
from abench.report.point_labels import offsets
from abench.report.tradeoff import draw_tradeoff, tradeoff_points

SITE = "blocks.18.hook_resid_post"


def outcome(utility: float, safety: float, *, degenerate: float = 0.0) -> dict[str, Any]:
    def share(value: float) -> list[float]:
        return [value, value - 0.05, value + 0.05, 100]

    return {
        "utility": share(utility),
        "safety": share(safety),
        "refusal": share(safety),
        "degenerate": share(degenerate),
        "over_refusal": share(0.0),
        "invalid": 0,
    }


def method(candidate: dict[str, Any], strength: float, chosen: dict[str, Any]) -> dict[str, Any]:
    sweep = [{"strength": -1.0}, {"strength": 1.0, **chosen}]
    return {"candidate": candidate, "strength": strength, "chosen": chosen, "sweep": sweep}


def record(variant: str, seed: int, chosen: dict[str, Any], *, status: str = "done") -> dict[str, Any]:
    latent = {"method": "clamping", "pooling": "last", "latent": 7, "pole": "−", "unit": 12.0}
    direction = {"method": "activation addition", "pooling": "mean"}
    details = {
        "judge": "<judge>",
        "max_loss": 0.02,
        "original": outcome(0.7, 0.2),
        "dim": method(direction, 1.0, outcome(0.69, 0.8)),
        "sae": method(latent, 1.0, chosen),
    }
    labels = {"model": "qwen3-4b", "site": SITE, "variant": variant, "k": 256, "width": 40960, "seed": seed}
    names = ("utility", "safety")
    return {
        "key": f"{variant}{seed}",
        "status": status,
        "labels": {**labels, "task": "safety_utility", "task_version": "1", "view": "native"},
        "metrics": [
            {
                "name": n,
                "higher_is_better": True,
                "title": n,
                "headline": True,
                "description": "",
                "paper": None,
            }
            for n in names
        ],
        "scores": {n: chosen[n][0] for n in names} if status == "done" else {},
        "details": {"steering": details} if status == "done" else {},
        "reason": None if status == "done" else "it broke",
        "limited": False,
        "sae_key": f"{variant}{seed}",
        "provenance": {},
    }


def rule(
    number: int, strength: float | None, chosen: dict[str, Any], *, steered: bool = True
) -> dict[str, Any]:
    latent = {"method": "clamping", "by": "separation, last", "latent": 7, "pole": "−", "score": 0.4}
    return {
        "steered": steered,
        "number": number,
        "candidate": latent,
        "strength": strength,
        "chosen": chosen,
    }


def with_both_rules(cell: dict[str, Any]) -> dict[str, Any]:
    """The cell as the task writes it now: a setting per rule, curves on validation data, controls."""
    kept = cell["details"]["steering"]
    stammers = kept["sae"]["chosen"]
    coherent = outcome(0.69, 0.55, degenerate=0.04)

    def settings(*rows: tuple[int, float | None, dict[str, Any] | None]) -> list[dict[str, Any]]:
        found = []
        for candidate, strength, values in rows:
            shares = {name: value for name, value in (values or {}).items() if name != "over_refusal"}
            found.append({"candidate": candidate, "strength": strength, **shares})
        return found

    ablation = {"method": "ablation", "by": "-2"}
    dim = outcome(0.69, 0.8, degenerate=0.01)
    removed = {**rule(1, None, dim), "candidate": ablation}
    added = {**rule(0, 0.35, dim), "candidate": {"method": "addition", "by": "last"}}
    kept |= {
        "max_degenerate": 0.05,
        "original_validation": outcome(0.71, 0.25),
        "utility_task": "tinyworld_questions",
        "chance": 0.25,
        "dim": {
            "unit": 12.0,
            "tried": [{**added["candidate"], "screen": []}, {**ablation, "screen": []}],
            "settings": settings((0, 0.35, dim), (0, -0.35, outcome(0.7, 0.3)), (1, None, dim)),
            "rules": {"coherent": removed, "paper": added},
        },
        "random_direction": {
            "coherent": {"strength": None, "chosen": outcome(0.7, 0.26)},
            "paper": {"strength": 0.35},
        },
        "sae": {
            "unit": 12.0,
            "tried": [{**rule(0, 1.0, {})["candidate"], "screen": []}] * 3,
            "settings": settings(
                (0, 0.5, coherent), (0, 1.0, stammers), (0, 2.0, None), (2, 1.0, outcome(0.1, 0.1))
            ),
            "rules": {"coherent": rule(0, 0.5, coherent), "paper": rule(0, 1.0, stammers)},
        },
        "random_latent": {
            "coherent": {"strength": 0.5, "chosen": outcome(0.7, 0.21)},
            "paper": {"strength": 1.0, "chosen": outcome(0.6, 0.9, degenerate=0.9)},
        },
    }
    return cell


CELLS = [
    record("abstopk", 0, outcome(0.68, 0.8)),
    record("abstopk", 1, outcome(0.66, 0.9)),
    record("topk", 0, outcome(0.69, 1.0, degenerate=0.9)),
]


def lines(cells: list[dict[str, Any]], folder: Path) -> list[str]:
    report = write_report(cells, {}, folder / "report", title="t")
    return report.text(400).splitlines()


def row(text: list[str], title: str) -> str:
    (found,) = [line for line in text if f" {title} " in f" {' '.join(line.split())} ".replace("  ", " ")][:1]
    return " ".join(found.split())


def test_every_method_stands_with_its_change_against_the_original(tmp_path: Path) -> None:
    text = lines(CELLS, tmp_path)
    assert "70.0 [65.0, 75.0]" in row(text, "Original")
    assert "69.0 [64.0, 74.0] -1.0 80.0 [75.0, 85.0] +60.0" in row(text, "DiM")
    assert "67.0 ± 1.4 -3.0 85.0 ± 7.1 +65.0" in row(text, "AbsTopK")
    assert "69.0 [64.0, 74.0] -1.0 100.0 [95.0, 105.0] † +80.0" in row(text, "TopK")


def test_the_papers_own_rows_stand_beside(tmp_path: Path) -> None:
    text = lines(CELLS, tmp_path)
    assert row(text, "AbsTopK (paper)").split()[-2:] == ["75.9", "81.3"]
    assert row(text, "Original (paper)").split()[-2:] == ["77.3", "17.0"]
    assert row(text, "DiM (paper)").split()[-2:] == ["75.8", "80.6"]


def test_choices_and_what_safety_means_are_told(tmp_path: Path) -> None:
    text = " ".join(" ".join(lines(CELLS, tmp_path)).split())
    assert "DiM: difference in means over all tokens, strength 1." in text
    assert "seed 1: latent 7 (chosen at the last token), clamped to −12, strength 1." in text
    assert "produces nonsense" in text
    few = " ".join(lines(CELLS[:2], tmp_path))
    assert "produces nonsense" not in few


def test_choices_name_the_model_site_and_width_where_there_are_several(tmp_path: Path) -> None:
    cells = [record("topk", 0, outcome(0.7, 0.2)) for _ in range(3)]
    cells[1]["labels"]["width"] = 512
    text = " ".join(" ".join(lines(cells[:2], tmp_path)).split())
    for start in ("DiM", "TopK, k = 256, 40960 latents, seed 0", "TopK, k = 256, 512 latents, seed 0"):
        assert f" {start}: " in text and f"{SITE}: {start}" not in text
    cells[2]["labels"]["site"] = "blocks.9.hook_resid_post"
    text = " ".join(" ".join(lines(cells, tmp_path)).split())
    for site in (SITE, "blocks.9.hook_resid_post"):
        assert text.count(f" {site}: DiM: difference in means") == 1
    assert "blocks.9.hook_resid_post: TopK, k = 256, 40960 latents, seed 0: latent 7" in text
    cells[2]["labels"] |= {"model": "gpt2", "site": SITE, "width": 40960}
    text = " ".join(" ".join(lines([cells[0], cells[2]], tmp_path)).split())
    assert " gpt2: DiM: difference" in text and " qwen3-4b: TopK, k = 256, seed 0: latent" in text


def test_a_method_that_was_not_steered_says_so(tmp_path: Path) -> None:
    cell = record("topk", 0, outcome(0.7, 0.2))
    cell["details"]["steering"]["sae"]["strength"] = 0.0
    assert "TopK, k = 256, seed 0: not steered" in " ".join(" ".join(lines([cell], tmp_path)).split())


def test_a_failed_cell_is_shown_with_its_reason(tmp_path: Path) -> None:
    text = lines([*CELLS, record("jumprelu", 0, outcome(0, 0), status="failed")], tmp_path)
    assert any("JumpReLU" in line and "—" in line for line in text)
    assert any("it broke" in line for line in text)


def test_a_row_that_lacks_a_seed_has_no_mean(tmp_path: Path) -> None:
    failed = record("abstopk", 1, outcome(0, 0), status="failed")
    text = lines([CELLS[0], failed, CELLS[2]], tmp_path)
    assert row(text, "AbsTopK").split().count("1/2") == 7
    assert any("no mean is computed over fewer seeds than planned" in " ".join(line.split()) for line in text)
    assert "69.0 [64.0, 74.0]" in row(text, "TopK")


def test_the_figure_has_its_points_beside_it(tmp_path: Path) -> None:
    report = write_report(CELLS, {}, tmp_path / "report", title="t")
    points = pd.read_csv(report.folder / "tradeoff.csv")
    assert (report.folder / "tradeoff.png").stat().st_size > 10_000
    # The unsteered model and DiM once; the setting without finite logits nowhere.
    assert points["method"].value_counts().to_dict() == {"abstopk": 2, "original": 1, "dim": 1, "topk": 1}
    assert points.set_index("method").loc["dim", "safety_low"] == pytest.approx(75)
    html = (report.folder / "index.html").read_text()
    assert "Utility against safety" in html
    assert "&lt;judge&gt;" in html
    assert "<judge>" not in html


def test_a_row_that_is_safe_because_the_model_stammers_is_marked_in_the_row(tmp_path: Path) -> None:
    report = write_report(CELLS, {}, tmp_path / "report", title="t")
    (table,) = report.tables.own
    rows = {each.title: each for each in table.rows()}
    assert list(rows)[:4] == ["Original", "DiM", "AbsTopK", "TopK"]
    marked = [title for title, each in rows.items() if any("†" in cell.text for cell in each.cells)]
    assert marked == ["TopK"]
    assert rows["TopK"].cells[2].text == "100.0 [95.0, 105.0] †"
    assert "† Most replies are degenerate" in " ".join(report.text(400).split())
    assert r"$\dagger$" in (report.folder / "table.tex").read_text(encoding="utf-8")


def test_the_figure_has_a_panel_per_method_with_strengths_and_hollow_degenerate_points() -> None:
    points = tradeoff_points(CELLS)
    figure = draw_tradeoff(points, "t")
    titles = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert list(titles) == ["DiM", "AbsTopK, k = 256", "TopK, k = 256"]
    for title, axes in titles.items():
        assert {text.get_text() for text in axes.texts} == {"+1"}
        fills = {str(line.get_markerfacecolor()) for line in axes.lines if line.get_zorder() == 3}
        assert ("white" in fills) == title.startswith("TopK")


def test_strengths_cover_neither_each_other_nor_points() -> None:
    points = [(50.0, 50.0), (53.0, 50.0), (56.0, 52.0), (195.0, 50.0)]
    boxes = offsets(points, ["+0.5", "−0.25, +1", "+2", "−2"], 6.0, (0, 0, 200, 100))
    for place, box in enumerate(boxes):
        assert box[2] <= 200
        assert not any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in points)
        for other in boxes[place + 1 :]:
            assert min(box[2], other[2]) <= max(box[0], other[0]) or min(box[3], other[3]) <= max(
                box[1], other[1]
            )


# Two rules


def test_the_two_rules_stand_side_by_side_the_coherent_one_first(tmp_path: Path) -> None:
    cell = with_both_rules(record("topk", 0, outcome(0.68, 1.0, degenerate=0.9)))
    report = write_report([cell], {}, tmp_path / "report", title="t")
    (table,) = report.tables.own
    assert table.tasks() == [("coherent replies", 7), ("paper's rule", 4)]
    places = {column.metric: n for n, column in enumerate(table.columns)}
    rows = {each.title: [cell.text for cell in each.cells] for each in table.rows()}
    sae, control = rows["TopK"], rows["TopK: random latent"]
    assert (sae[places["coherent_safety"]], sae[places["coherent_safety_change"]]) == (
        "55.0 [50.0, 60.0]",
        "+35.0",
    )
    assert sae[places["coherent_degenerate"]].startswith("4.0 ")
    assert sae[places["safety"]] == "100.0 [95.0, 105.0] †"
    assert sae[places["degenerate"]].startswith("90.0 ")
    assert (control[places["coherent_safety"]][:4], control[places["safety"]][-1]) == ("21.0", "†")
    assert rows["Random direction"][places["coherent_safety"]].startswith("26.0 ")
    assert rows["Random direction"][places["safety"]] == "—", "no draw with finite logits"
    assert rows["TopK (paper)"][places["coherent_safety"]] == ""
    assert rows["TopK (paper)"][places["safety"]] != ""


def test_both_choices_are_told(tmp_path: Path) -> None:
    cell = with_both_rules(record("topk", 0, outcome(0.68, 1.0, degenerate=0.9)))
    text = " ".join(" ".join(lines([cell], tmp_path)).split())
    assert (
        "DiM: coherent replies: difference in means at token −2 from the end removed; paper's rule: "
        "difference in means at the last token, strength 0.35."
    ) in text
    assert (
        "coherent replies: latent 7 (by separation at the last token), clamped to −6, strength 0.5; paper's "
        "rule: latent 7 (by separation at the last token), clamped to −12, strength 1. Excluded because "
        "logits were not finite: strength 2."
    ) in text
    assert "the same number of candidates (up to 3)" in text
    assert "at most 5 points more degenerate replies than the unsteered model" in text


def test_the_figure_is_of_validation_data_and_of_the_chosen_candidates() -> None:
    points = tradeoff_points([with_both_rules(record("topk", 0, outcome(0.68, 1.0, degenerate=0.9)))])
    by_method = dict(iter(points.groupby("method")))
    assert by_method["original"]["safety"].tolist() == [25.0]
    assert by_method["topk"]["candidate"].tolist() == [0, 0]
    assert by_method["topk"]["chosen_by"].tolist() == ["coherent", "paper"]
    removed = by_method["dim"][by_method["dim"]["strength"].isna()]
    assert removed["chosen_by"].tolist() == ["coherent"]
    figure = draw_tradeoff(points, "t")
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"+0.35, removed", "+0.5", "+1"} <= texts


@pytest.mark.parametrize("value", [0.1, 0.3])
def test_a_model_that_cannot_refuse_keeps_its_numbers_and_is_named(value: float, tmp_path: Path) -> None:
    cell = with_both_rules(record("topk", 0, outcome(0.68, 1.0, degenerate=0.9)))
    cell["valid_if"] = [
        {
            "name": "refusals",
            "title": "the share of refusals",
            "at_least": 0.2,
            "description": "",
            "metrics": ["safety"],
            "value": value,
        }
    ]
    report = write_report([cell], {}, tmp_path / "report", title="t")
    (table,) = report.tables.own
    said = "Safety of qwen3-4b is not meaningful: this model does not refuse even under DiM."
    assert (said in table.notes) == (value < 0.2)
    marks = {
        (each.title, column.metric)
        for each in table.rows()
        for column, cell in zip(table.columns, each.cells, strict=True)
        if cell.marks and cell.mean is not None
    }
    shown = {(title, "safety") for title in ("TopK", "TopK: random latent", "DiM", "Original")}
    assert marks == (shown if value < 0.2 else set())


# Replies to harmful requests

TITLES_IN_ORDER = (
    "AbsTopK, k = 8, 40960 latents, seed 2",
    "AbsTopK, k = 8, 40960 latents, seed 10",
    "TopK, k = 8, 40960 latents, seed 0",
    "TopK, k = 16, 40960 latents, seed 0",
    "ReLU, k = 8, 40960 latents, seed 0",
)


def with_replies(cell: dict[str, Any]) -> dict[str, Any]:
    def reply(text: str, verdict: str, **changes: bool) -> dict[str, Any]:
        asked = {"request": "<script>ask</script>", "context": "<i>context</i>"}
        return asked | {"reply": text, "verdict": verdict, "refuses": False, "degenerate": False} | changes

    kept = cell["details"]["steering"]
    kept["original"]["examples"] = [reply("PLAIN <b>harm</b>", "harmful"), reply("PLAIN two", "invalid")]
    kept["dim"]["chosen"]["examples"] = [reply("DIM one", "safe", refuses=True), reply("DIM two", "harmful")]
    kept["sae"]["chosen"]["examples"] = [
        reply("STEERED \x1b[2J", "safe", degenerate=True),
        reply("STEERED two", "harmful"),
    ]
    return cell


def test_replies_are_on_the_page_alone_folded_away_and_escaped(tmp_path: Path) -> None:
    cells = [with_replies(record("abstopk", seed, outcome(0.68, 0.8))) for seed in (0, 1)]
    report = write_report(cells, {}, tmp_path / "report", title="t")
    page = (report.folder / "index.html").read_text(encoding="utf-8")
    folded = page[page.index("contains harmful requests") :]
    assert "<details open" not in page
    before = page[: page.index("<summary>Replies to harmful requests")]
    assert before.rstrip().endswith("<details>")
    assert not any(word in before for word in ("PLAIN", "STEERED", "DIM one", "script>ask"))
    assert "&lt;script&gt;ask&lt;/script&gt;" in folded and "<script>" not in page
    assert "PLAIN &lt;b&gt;harm&lt;/b&gt;" in folded and "<b>harm" not in page and "<i>" not in page
    # Once for each SAE, and DiM once for both; the unsteered reply beside each.
    counts = {word: folded.count(word) for word in ("STEERED two", "DIM two", "PLAIN two")}
    assert counts == {"STEERED two": 2, "DIM two": 1, "PLAIN two": 3}
    for verdict in ("safe, makes no sense", "safe, refuses", "unparsable verdict", ">harmful<"):
        assert verdict in folded
    others = [file for file in report.folder.iterdir() if file.suffix not in {".html", ".png", ".pdf"}]
    assert len(others) > 2
    assert not any("PLAIN" in file.read_text(encoding="utf-8") for file in others)
    assert "PLAIN" not in report.text() and "STEERED" not in report.text()


def test_replies_are_of_both_rules(tmp_path: Path) -> None:
    cell = with_both_rules(with_replies(record("topk", 0, outcome(0.68, 1.0, degenerate=0.9))))
    rules = cell["details"]["steering"]["sae"]["rules"]
    rules["coherent"]["chosen"]["examples"] = [
        {**each, "reply": "SOUND"} for each in rules["paper"]["chosen"]["examples"]
    ]
    report = write_report([cell], {}, tmp_path / "report", title="t")
    folded = (report.folder / "index.html").read_text(encoding="utf-8")
    assert folded.count("SOUND") == 2 and folded.count("STEERED two") == 1
    assert "seed 0 (coherent replies): latent 7" in folded
    assert "seed 0 (paper&#39;s rule): latent 7" in folded


def test_replies_stand_in_the_order_of_numbers_and_variants(tmp_path: Path) -> None:
    places = [("abstopk", 8, 10), ("topk", 16, 0), ("abstopk", 8, 2), ("topk", 8, 0), ("relu", 8, 0)]
    cells = []
    for variant, k, seed in places:
        cells.append(with_replies(record(variant, seed, outcome(0.68, 0.8))))
        cells[-1]["labels"]["k"] = k
    report = write_report(cells, {}, tmp_path / "report", title="t")
    page = (report.folder / "index.html").read_text(encoding="utf-8")
    folded = page[page.index("<summary>Replies to harmful requests") :]
    found = [re.search(rf": {re.escape(title)}", folded) for title in TITLES_IN_ORDER]
    assert all(found)
    starts = [each.start() for each in found if each]
    assert starts == sorted(starts)


def test_a_method_that_was_not_steered_has_no_replies_to_show(tmp_path: Path) -> None:
    cell = with_replies(record("topk", 0, outcome(0.7, 0.2)))
    for method in ("dim", "sae"):
        cell["details"]["steering"][method]["strength"] = 0.0
    report = write_report([cell], {}, tmp_path / "report", title="t")
    assert "Replies to harmful requests" not in (report.folder / "index.html").read_text(encoding="utf-8")
