"""Figures that tasks declare themselves: from a task in a folder to its files and its place on the page."""

import csv
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from command import SMALL, Abench
from paper_cells import cell, run_of

from abench import Context, Metric, Scores, Task, TaskFigure
from abench.report import TRADEOFF, line_chart, points_of, prepare_report, variant_style, write_prepared
from abench.report.own import installed_tasks

TASK = '''
"""Norms of reconstructions by position."""

from typing import Any, ClassVar

from abench import SAE, Amount, Context, LanguageModel, Metric, Scores, Task, TaskFigure, TaskTable, TokenRows


def ends(records, styles):
    from abench.report import Column, table_of

    return table_of(records, "ends", [Column.own("first", "first"), Column.own("fifth", "fifth")], styles)


def points(records):
    from abench.report import points_of

    return points_of(records, "by_position")


def draw(points, heading, styles):
    from matplotlib.figure import Figure

    from abench.report import variant_style

    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.set(title=heading, xlabel="position", ylabel="norm, first look")
    for variant, mine in points.groupby("variant"):
        style = variant_style(variant, styles)
        axes.plot(mine["position"], mine["norm"], style.marker, color=style.colour, label=style.title)
    axes.legend()
    return figure


class Norms(Task):
    """Norms of reconstructions by position."""

    name: ClassVar[str] = "norms"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("norm", None, headline=True, description="mean norm"),)

    @classmethod
    def figures(cls):
        from abench.report import line_chart

        chart = line_chart("position", "norm", y_title="norm of the reconstruction")
        return [TaskFigure("norms", "Norm by position", points, draw, "One <line> per SAE.", chart)]

    @classmethod
    def tables(cls):
        return [TaskTable("Norms of two positions", ends)]

    @classmethod
    def notes(cls, records):
        return [f"Norms of {len(records)} cells."]

    def prepare(self, lm: LanguageModel, ctx: Context) -> Any:
        tokens = TokenRows(lm, ctx.data, "held_out", ctx.context_size).batch(4)
        ctx.used(Amount("rows", len(tokens), 4))
        return lm.residual(tokens, ctx.site)

    def score(self, sae: SAE, prepared: Any, lm: LanguageModel, ctx: Context) -> Scores:
        x_hat = sae.decode(sae.encode(prepared.flatten(0, 1)))
        norms = x_hat.norm(dim=-1).reshape(prepared.shape[:2]).mean(0)
        rows = [{"position": i, "norm": float(norm)} for i, norm in enumerate(norms[:5])]
        ends = {"first": float(norms[0]), "fifth": float(norms[4])}
        return {"norm": float(norms.mean())}, {"by_position": rows, "ends": ends}
'''


def test_a_task_in_a_folder_brings_its_own_figure_table_and_note(abench: Abench, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "norms.py").write_text(TASK)
    options = ("--plugins", folder, "--tasks", "norms,core", "--variants", "abstopk,topk", "--k", "4", *SMALL)
    results = tmp_path / "results"
    ran = abench("run", *options, "--results", results)
    assert ran.code == 0, ran.err
    report = results / "reports" / "default"
    with (report / "norms.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["variant"] for row in rows] == ["abstopk"] * 5 + ["topk"] * 5
    assert (report / "norms.png").is_file() and (report / "norms.pdf").is_file()
    assert "norms" in (report / "report.tex").read_text(encoding="utf-8")
    page = (report / "index.html").read_text(encoding="utf-8")
    shown = (">Norms of two positions<", "<h4>Norm by position</h4>", 'data-chart="norms"', ">norms<")
    places = [page.index(text) for text in shown]
    assert places == sorted(places)
    for text in (
        ran.out,
        page,
        *((report / name).read_text(encoding="utf-8") for name in ("table.md", "table.tex")),
    ):
        assert "Norms of two positions" in text and "Norms of 2 cells." in text
        assert all(f"{float(row['norm']):.0f}" in text for row in rows if row["position"] in ("0", "4"))
    data = json.loads(page.partition('<script id="page-data" type="application/json">')[2].partition("</")[0])
    chart = data["charts"]["norms"]
    assert [series["name"] for series in chart["series"]] == [
        "AbsTopK, k = 4, 200 latents, seed 0",
        "TopK, k = 4, 200 latents, seed 0",
    ]
    assert chart["series"][0]["y"] == pytest.approx([float(row["norm"]) for row in rows[:5]], rel=1e-5)
    assert chart["panels"][0]["y"] == "norm of the reconstruction"
    # The figure is copied as long as its points and the task's code are the same, and drawn again otherwise.
    before = (report / "norms.png").read_bytes()
    assert abench("report", *options, "--results", results).code == 0
    assert (report / "norms.png").read_bytes() == before
    (folder / "norms.py").write_text(TASK.replace("first look", "second look"))
    assert abench("report", *options, "--results", results).code == 0
    assert (report / "norms.png").read_bytes() != before


def told(records: Any) -> Any:
    return points_of(records, "told")


def draw(points: Any, heading: str, styles: Any) -> Any:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot(points["x"], points["y"], color=variant_style("topk", styles).colour)
    return figure


class Told(Task):
    """Stands for a task whose figures are those of the class variable."""

    name: ClassVar[str] = "scr"
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("told", None, headline=True),)
    own: ClassVar[Any] = ()

    @classmethod
    def figures(cls) -> Any:
        return cls.own() if callable(cls.own) else cls.own

    def score(self, sae: Any, prepared: Any, lm: Any, ctx: Context) -> Scores:
        raise NotImplementedError


def figure(name: str = "told", points: Any = told, drawing: Any = draw, **fields: Any) -> TaskFigure:
    return TaskFigure(name, "Told", points, drawing, **fields)


def cells(*details: Any) -> list[dict[str, Any]]:
    return [
        cell("scr", {"scr_metric_threshold_20": 0.5}, seed=seed, details={"told": each})
        for seed, each in enumerate(details)
    ]


def written(own: Any, records: list[dict[str, Any]], folder: Path) -> str:
    """The page of a report in which the task `scr` has these figures."""
    task = type("Mine", (Told,), {"own": own, "__module__": __name__})
    report = write_prepared(prepare_report(records, title="T", tasks={"scr": task}), {}, folder)
    return report.index.read_text(encoding="utf-8")


def broken(*_: Any) -> Any:
    raise ValueError("it is <broken>")


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        (broken, "The figures of task scr could not be made"),
        ([3], "figures() must return abench.TaskFigure, not int"),
        ([figure("data")], "a figure cannot have the name &#39;data&#39;"),
        ([figure("../escape")], "a figure cannot have the name &#39;../escape&#39;"),
        ([figure(drawing=3)], "points and draw of the figure &#39;told&#39; must be functions"),
        ([figure(drawing=broken)], "The figure &#39;told&#39; of task scr could not be made"),
        ([figure(drawing=lambda *_: 3)], "The figure &#39;told&#39; of task scr could not be made"),
        ([figure(points=broken)], "The figure &#39;told&#39; of task scr could not be made"),
        ([figure(), figure()], "another figure has the name &#39;told&#39;"),
    ],
)
def test_a_figure_that_cannot_be_had_leaves_a_sentence(own: Any, sentence: str, tmp_path: Path) -> None:
    page = written(staticmethod(own) if callable(own) else own, cells([{"x": 1, "y": 2}]), tmp_path / "r")
    assert sentence in page
    assert "it is <broken>" not in page
    assert not (tmp_path / "escape.png").exists()
    assert "scr" in (tmp_path / "r" / "data.csv").read_text(encoding="utf-8")


def test_cells_whose_details_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    page = written([figure()], cells([{"x": 1, "y": 2}], 3, [{"x": 2, "y": 3}]), tmp_path / "r")
    assert "1 of 3 cells are left out." in page
    with (tmp_path / "r" / "told.csv").open(encoding="utf-8") as stream:
        assert [row["seed"] for row in csv.DictReader(stream)] == ["0", "2"]


def test_a_chart_that_the_page_cannot_hold_leaves_the_image(tmp_path: Path) -> None:
    page = written(
        [figure(chart=lambda *_: {"series": [{"y": float("nan")}]})],
        cells([{"x": 1, "y": 2}]),
        tmp_path / "r",
    )
    assert 'alt="Told"' in page
    assert '"told"' not in page.partition('id="page-data"')[2].partition("</script>")[0]


def test_points_leave_out_scores_that_mean_nothing_and_keep_sae_labels() -> None:
    condition = {"name": "f1", "title": "the F1", "at_least": 0.5, "metrics": ["told"], "value": 0.1}
    good, bad, failed = cells([{"x": 1, "y": 2}], [{"x": 3, "y": 4}], [{"x": 5, "y": 6}])
    bad["valid_if"] = [condition]
    failed["status"] = "failed"
    assert points_of([good, bad, failed], "told")["x"].tolist() == [1, 3]
    frame = points_of([good, bad, failed], "told", ["told"])
    assert frame.to_dict("records") == [
        {"model": "tiny", "site": "blocks.2.hook_resid_post", "variant": "topk", "k": 8, "width": 64}
        | {"seed": 0, "view": "native", "x": 1, "y": 2}
    ]
    assert len(points_of(run_of(seeds=1), "told")) == 0


def test_a_line_is_an_sae() -> None:
    row = {
        "model": "m",
        "site": "s",
        "variant": "topk",
        "k": "8",
        "width": "64",
        "seed": "",
        "view": "native",
    }
    rows = [
        row | {"x": "1", "y": "2"},
        row | {"x": "2", "y": ""},
        row | {"view": "split", "x": "1", "y": "3"},
    ]
    chart = line_chart("x", "y")(rows, {})
    assert [(each["name"], each["x"], each["y"]) for each in chart["series"]] == [
        ("TopK, k = 8, 64 latents (native)", [1.0], [2.0]),
        ("TopK, k = 8, 64 latents (split)", [1.0], [3.0]),
    ]


def test_the_built_in_figures_come_from_their_tasks() -> None:
    tasks = installed_tasks()
    assert [each.name for each in tasks["safety_utility"].figures()] == [TRADEOFF.name]
    assert [each.name for each in tasks["bidirectionality"].figures()] == ["bidirectionality"]
    assert [each.name for each in tasks["recovery"].figures()] == ["toy"]
