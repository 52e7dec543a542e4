"""A report knows its run: its files and page, its columns, its look, and repeating it."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command import SMALL, Abench
from paper_cells import run_of

from abench.report import prepare_report, read_tidy, write_prepared, write_report
from abench.report.about import About
from abench.report.latex import latex
from abench.runs.planner import RunRequest, plan_run

RUN = ("run", "--variants", "topk,relu", "--k", "8", "--tasks", "core", "--limit", "4", *SMALL)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a small run, with its report `mine`."""
    from command import start

    folder = tmp_path_factory.mktemp("of-run") / "results"
    with start(*RUN, "--name", "mine", "--results", folder, "--device", "cpu") as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    return folder


@pytest.mark.parametrize(
    "request_",
    [
        RunRequest(),
        RunRequest("toy"),
        RunRequest(options={"k": (4, 8), "training.learning_rate": [1e-3, 3e-5], "layers": ("early", 2)}),
        RunRequest("safety", assignments=("variant_options.jumprelu.bandwidth=[0.1,0.2]", "width_factor=4")),
    ],
)
def test_the_resolved_configuration_gives_the_same_keys(request_: RunRequest, tmp_path: Path) -> None:
    plan = plan_run(request_, fetch=False, say=print)
    assert plan.origin is not None
    file = tmp_path / "run.yaml"
    file.write_text(About("", plan.origin.configuration).yaml(), encoding="utf-8")
    again = plan_run(RunRequest(str(file)), fetch=False, say=print)
    assert [cell.key for cell in again.cells] == [cell.key for cell in plan.cells]
    assert [cell.labels() for cell in again.cells] == [cell.labels() for cell in plan.cells]


def test_the_folder_and_the_page_hold_the_configuration_and_the_command(results: Path) -> None:
    folder = results / "reports" / "mine"
    text = (folder / "run.yaml").read_text(encoding="utf-8")
    assert text.startswith("# abench run --variants topk,relu --k 8 --width 200 --tasks core --tokens 40960")
    configuration = yaml.safe_load(text)
    assert configuration["layers"] == [2]
    assert configuration["training"]["tokens"] == 40960
    assert configuration["evaluation"]["limit"] == 4
    recorded = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert recorded["configuration"] == configuration
    assert recorded["hosts"]
    assert recorded["packages"]["abench"]
    assert {cell["key"] for cell in recorded["cells"]} == set(read_tidy(folder / "data.csv")["key"])
    page = (folder / "index.html").read_text(encoding="utf-8")
    for said in (
        "Tiny world",
        "40,960 tokens per SAE",
        "Learning rate",
        "at most 4 items",
        "--variants topk",
    ):
        assert said in page, said


def test_data_csv_tells_run_tokens_learning_rate_and_options(results: Path) -> None:
    frame = read_tidy(results / "reports" / "mine" / "data.csv")
    assert set(frame["run"]) == {"mine"}
    assert set(frame["tokens"]) == {40960}
    assert set(frame["learning_rate"]) == {0.001}
    options = {row.variant: json.loads(row.options) for row in frame.itertuples()}
    assert options["topk"]["aux_loss_coefficient"] == 1.0
    assert "name" not in options["relu"]


def test_a_report_is_written_again_from_its_folder_alone(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = results / "reports" / "mine"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.chdir(tmp_path)  # without the results folder that is the default
    assert Abench(capsys, monkeypatch)("report", folder).code == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert Abench(capsys, monkeypatch)("status", folder).code == 0


def test_a_repeated_run_says_where_it_differs(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded = json.loads((results / "reports" / "mine" / "provenance.json").read_text(encoding="utf-8"))
    changed = recorded["cells"][0]
    changed["scores"]["nmse"] += 1e-3
    recorded["packages"]["torch"] = ["0.1"]
    file = tmp_path / "provenance.json"
    file.write_text(json.dumps(recorded), encoding="utf-8")
    result = Abench(capsys, monkeypatch)("run", "--from", file, "--results", results, "--device", "cpu")
    assert result.code == 0, result.err
    assert "1 of 2 cells with the same key have exactly the same scores." in result.out
    assert f"1 have other scores: {changed['variant']}" in result.out
    assert re.search(r"nmse is 0\.\d+ there and 0\.\d+ here", result.out)
    assert "torch 0.1 there" in result.out
    assert "2 cells of this run came from the results folder." in result.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"abench_provenance": 99, "configuration": {}}, "has format 99, but this version of abench reads 1"),
        ({"configuration": {}}, "is not a provenance.json of a report"),
        ({"abench_provenance": 1}, "holds no configuration"),
        ([], "is not a provenance.json of a report"),
    ],
)
def test_a_provenance_file_of_another_version_is_refused(
    content: Any,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "provenance.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    result = Abench(capsys, monkeypatch)("run", "--from", file, "--results", tmp_path / "r")
    assert result.code == 2
    assert message in result.err
    both = Abench(capsys, monkeypatch)("run", "toy", "--from", file)
    assert (both.code, "--from and CONFIG cannot be used together" in both.err) == (2, True)


def about(**configuration: Any) -> About:
    return About("abench run", configuration)


def test_metrics_make_one_table_in_their_order() -> None:
    names = ["tpp_threshold_20_total_metric", "scr_metric_threshold_20"]
    cells = [
        each | {"metrics": [m | {"headline": m["name"] in names} for m in each["metrics"]]}
        for each in run_of()
    ]
    tables = prepare_report(cells, title="T", about=about(metrics=names)).tables
    (table,) = tables.shown
    assert [column.metric for column in table.columns] == names
    assert tables.paper is None
    assert prepare_report(cells, title="T").tables.paper is not None


def test_caption_label_and_figure_size_are_keys(tmp_path: Path) -> None:
    layout = {"caption": "Ours & theirs", "label": "tab:ours", "figure_size": [3, 2]}
    prepared = prepare_report(run_of(), title="T", about=about(report=layout))
    report = write_prepared(prepared, {}, tmp_path / "r")
    text = (report.folder / "table.tex").read_text(encoding="utf-8")
    assert r"\caption{Ours \& theirs: Tasks as in the paper}" in text
    assert re.findall(r"\\label\{(.*)\}", text)[0] == "tab:ours"
    assert len(set(re.findall(r"\\label\{(.*)\}", text))) == len(prepared.tables.shown)
    image = (report.folder / "task_scores.png").read_bytes()
    assert [int.from_bytes(image[at : at + 4]) for at in (16, 20)] == [480, 320]
    # The page shows it at its own size, 3 inches of 96 pixels, or smaller.
    assert "width: 288px" in (report.folder / "index.html").read_text(encoding="utf-8")
    assert r"\label" not in latex(prepared.tables)


def test_panels_are_chosen_and_ordered() -> None:
    import abench.report.curves as curves
    from abench.config import ReportSpec
    from abench.report.figures import draw

    rows = [
        {"panel": panel, "variant": "topk", "k": 8, "width": 64, "x": x, "x_sd": 0.0, "y": 0.5, "y_sd": 0.0}
        for panel in curves.PANELS
        for x in (8.0, 9.0)
    ]
    spec = ReportSpec(panels=("loss_recovered_zero", "nmse"))
    figure = draw(pd.DataFrame(rows), "T", order=spec.panels or ())
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "Loss recovered (zero ablation) ↑",
        "Normalised MSE ↓",
    ]
    with pytest.raises(ValueError, match="none twice"):
        ReportSpec(panels=("nmse", "nmse"))


def test_pdf_figures_embed_their_fonts(tmp_path: Path) -> None:
    report = write_report(run_of(), {}, tmp_path / "r", title="T")
    for file in report.folder.glob("*.pdf"):
        content = file.read_bytes()
        fonts = content.count(b"/Type /Font ") + content.count(b"/Type /Font\n")
        assert fonts, file
        assert b"/FontFile2" in content
        assert b"/Type3" not in content


def test_old_columns_come_first_and_are_unchanged(tmp_path: Path) -> None:
    report = write_report(run_of(), {}, tmp_path / "r", title="T")
    columns = list(pd.read_csv(report.folder / "data.csv").columns)
    assert columns[:16] == [
        *("model", "site", "variant", "k", "width", "seed", "task", "task_version", "view", "metric"),
        *("value", "higher_is_better", "status", "key", "valid", "invalid_because"),
    ]
    assert columns[16:] == ["run", "tokens", "learning_rate", "options"]
