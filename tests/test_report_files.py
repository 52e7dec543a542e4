"""What a report puts on disk: figures and the points behind them, the page, the swap of folders."""

import hashlib
import math
import random
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from abench.errors import UserError
from abench.report import VariantStyle, variant_style, write_report
from abench.report.curves import PANELS, read_curve, reconstruction_points
from abench.report.figures import draw, figure_names
from abench.report.style import VARIANTS

METRICS = {
    "core": [("nmse", "nMSE", False), ("loss_recovered_zero", "Loss recovered", True), ("l0", "L0", None)],
    "scr": [("scr", "SCR at 20", True)],
    "sparse_probing": [("accuracy", "Accuracy", True)],
    "mmlu": [("accuracy", "Accuracy", True)],
}


def fake_cell(labels: dict[str, Any], scores: dict[str, float], **fields: Any) -> dict[str, Any]:
    sae = "-".join(str(labels[name]) for name in ("model", "site", "variant", "k", "width", "seed"))
    text = f"{sae}-{labels['task']}-{labels['view']}"
    metrics = [
        {
            "name": name,
            "title": title,
            "higher_is_better": better,
            "headline": True,
            "description": f"{title}.",
        }
        for name, title, better in METRICS[labels["task"]]
    ]
    cell = {
        "schema": 1,
        "key": hashlib.sha256(text.encode()).hexdigest(),
        "status": "done",
        "labels": {"task_version": "1", **labels},
        "metrics": metrics,
        "scores": scores,
        "reason": None,
        "limited": False,
        "sae_key": hashlib.sha256(sae.encode()).hexdigest(),
        "provenance": {"seconds": 1.5, "device": "cpu", "host": "here", "packages": {"torch": "2.9"}},
    }
    return cell | fields


def fake_run(
    variants: tuple[str, ...] = ("abstopk", "topk", "jumprelu"),
    ks: tuple[int, ...] = (8, 32),
    seeds: int = 3,
    site: str = "blocks.2.hook_resid_post",
    width: int = 2048,
) -> tuple[list[dict[str, Any]], dict[str, pd.DataFrame]]:
    """Cells and training curves that look like those of a real run."""
    cells, curves = [], {}
    for i, variant in enumerate(variants):
        for k in ks:
            for seed in range(seeds):
                draw = np.random.default_rng([i, k, seed, width])
                noise = draw.normal(0, 0.04)
                nmse = 0.9 * k**-0.45 * (1 + 0.12 * i) * (1 + noise)
                l0 = k * (1 + (0.08 * draw.normal() if variant in ("jumprelu", "relu", "gated") else 0))
                core = {"nmse": nmse, "loss_recovered_zero": 1 - nmse**1.7, "l0": l0}
                others = {"scr": {"scr": 0.35 - 0.02 * i + noise}, "mmlu": {"accuracy": 0.75 + noise / 9}}
                probing = {"sparse_probing": {"accuracy": 0.8 + noise}}
                labels = {
                    "model": "tiny",
                    "site": site,
                    "variant": variant,
                    "k": k,
                    "width": width,
                    "seed": seed,
                }
                for task, scores in ({"core": core} | others | probing).items():
                    views = ["native", "split"] if variant == "abstopk" and task == "scr" else ["native"]
                    cells += [fake_cell({**labels, "task": task, "view": view}, scores) for view in views]
                steps = np.arange(10, 2001, 10)
                mse = 64 * (nmse + np.exp(-steps / 120)) * (1 + 0.02 * draw.normal(size=steps.size))
                columns = {
                    "step": steps,
                    "tokens": steps * 2048,
                    "mse": mse,
                    "l0": l0,
                    "dead": 0,
                    "seconds": 1.0,
                }
                curves[cells[-1]["sae_key"]] = pd.DataFrame(columns)
    return cells, curves


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a failed seed whose reason is hostile, and a skipped task."""
    cells, curves = fake_run()
    failed = next(c for c in cells if c["labels"]["task"] == "core" and c["labels"]["variant"] == "topk")
    failed |= {"status": "failed", "scores": {}, "reason": "Broke at <script>alert('x')</script> & stopped."}
    for cell in cells:
        if cell["labels"]["task"] == "mmlu" and cell["labels"]["variant"] == "jumprelu":
            cell |= {"status": "skipped", "scores": {}, "reason": "No questions.", "provenance": None}
    folder = tmp_path_factory.mktemp("results") / "reports" / "small"
    write_report(cells, curves, folder, title="Small <b>&</b> fine", footnotes=["Judge: rules."])
    return folder


# Figures


def test_all_files_are_written(report: Path) -> None:
    names = {"data.csv", "index.html", "report.json", "report.tex", "table.md", "table.csv", "table.tex"}
    assert {path.name for path in report.iterdir()} == names | {"comparisons.csv"} | {
        f"{figure}.{suffix}" for figure in ("reconstruction", "pareto") for suffix in ("png", "pdf", "csv")
    }


def test_figures_are_images_of_print_resolution(report: Path) -> None:
    png = (report / "reconstruction.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1600
    assert height > 500
    pixels = png[png.index(b"pHYs") + 4 :][:4]
    assert struct.unpack(">I", pixels)[0] * 0.0254 >= 150
    assert (report / "reconstruction.pdf").read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in (report / "reconstruction.pdf").read_bytes()


def test_every_plotted_point_is_in_the_csv_beside_it(report: Path) -> None:
    points = pd.read_csv(report / "reconstruction.csv", float_precision="round_trip")
    drawn = drawn_points(points)
    assert len(drawn) == len(points)
    for panel, x, y in drawn:
        near = points[(points["panel"] == panel) & np.isclose(points["x"], x) & np.isclose(points["y"], y)]
        assert len(near) >= 1


def drawn_points(points: pd.DataFrame) -> list[tuple[str, float, float]]:
    figure = draw(points, "heading")
    found = []
    for panel, axes in zip(PANELS, figure.axes, strict=True):
        lines = [line for line in axes.lines if line.get_marker() not in ("_", "|", "None")]
        found += [(panel, x, y) for line in lines for x, y in zip(*line.get_data(), strict=True)]
    return found


def test_points_are_means_over_all_seeds_or_absent(report: Path) -> None:
    cells, curves = fake_run()
    points = pd.read_csv(report / "reconstruction.csv")
    core = [c for c in cells if c["labels"]["task"] == "core" and c["labels"]["k"] == 32]
    values = [c["scores"]["nmse"] for c in core if c["labels"]["variant"] == "abstopk"]
    point = points.query("panel == 'nmse' and variant == 'abstopk' and k == 32").iloc[0]
    assert point["y"] == pytest.approx(np.mean(values))
    assert point["y_sd"] == pytest.approx(np.std(values, ddof=1))
    assert points.query("panel == 'nmse' and variant == 'topk' and k == 8").empty
    mse = [curves[c["sae_key"]]["mse"][99] for c in core if c["labels"]["variant"] == "topk"]
    step = points.query("panel == 'training_mse' and variant == 'topk' and k == 32 and x == 1000").iloc[0]
    assert step["y"] == pytest.approx(np.mean(mse))
    assert step["y_sd"] == pytest.approx(np.std(mse, ddof=1))
    assert step["n"] == 3


@pytest.mark.parametrize(
    ("rows", "steps", "mse"),
    [("", [], []), ("0,512,0.1,4.0\n1,1024,,4.0\n", [0, 1], [0.1, math.nan])],
)
def test_a_curve_is_read_from_its_text(rows: str, steps: list[float], mse: list[float]) -> None:
    curve = read_curve(f"step,tokens,mse,l0\n{rows}")
    assert list(curve["step"]) == steps
    np.testing.assert_array_equal(curve["mse"], mse)


def test_a_curve_that_lacks_a_seed_is_left_out_and_steps_are_shared() -> None:
    cells, curves = fake_run(("topk", "abstopk"), (8,), 2)
    keys = {c["labels"]["variant"]: c["sae_key"] for c in cells}
    del curves[keys["topk"]]
    curves[keys["abstopk"]] = curves[keys["abstopk"]].iloc[:50]
    curve = reconstruction_points(cells, curves).query("panel == 'training_mse'")
    assert set(curve["variant"]) == {"abstopk"}
    assert curve["x"].max() == 500


def test_models_and_sites_get_figures_of_their_own(tmp_path: Path) -> None:
    first, curves = fake_run(("topk",), (8,), 1)
    second, _ = fake_run(("topk",), (8,), 1, site="blocks.3")
    write_report([*first, *second], curves, tmp_path / "two", title="T")
    names = {path.name for path in (tmp_path / "two").glob("*.png")}
    assert names == {"reconstruction-tiny-blocks.2.hook_resid_post.png", "reconstruction-tiny-blocks.3.png"}
    page = (tmp_path / "two" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2


def test_figure_names_never_meet() -> None:
    names = figure_names([("a/b", "s"), ("a-b", "s"), ("a b", "s")])
    assert len(set(names)) == 3
    assert all("/" not in name and " " not in name for name in names)


def test_without_any_point_there_is_no_figure(tmp_path: Path) -> None:
    cells, _ = fake_run(("topk",), (8,), 1)
    written = write_report([c for c in cells if c["labels"]["task"] == "scr"], {}, tmp_path / "r", title="T")
    assert not any(path.name.startswith("reconstruction") for path in written.files)


def test_equal_numbers_give_equal_bytes_in_any_order(tmp_path: Path, report: Path) -> None:
    cells, curves = fake_run(("topk", "abstopk"), (8,), 2)
    write_report(cells, curves, tmp_path / "a", title="T")
    random.Random(1).shuffle(cells)
    backwards = dict(reversed(curves.items()))
    write_report(cells, backwards, tmp_path / "b", title="T")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_matplotlib_is_left_as_it_was() -> None:
    code = """
import importlib.util, sys, tempfile, pathlib
import matplotlib
spec = importlib.util.spec_from_file_location("fakes", sys.argv[1])
fakes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fakes)
matplotlib.rcParams["font.size"] = 31
settings = [name for name in matplotlib.rcParams if name != "backend"]
before = [matplotlib.rcParams[name] for name in settings]
fakes.write_report(*fakes.fake_run(("topk",), (8,), 1), pathlib.Path(tempfile.mkdtemp()) / "r", title="T")
assert [matplotlib.rcParams[name] for name in settings] == before
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, __file__], check=True)


def test_importing_the_report_is_cheap() -> None:
    code = (
        "import sys, abench.report; assert not {'torch', 'pandas', 'matplotlib', 'jinja2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Styles


def test_known_variants_differ_in_colour_and_marker() -> None:
    assert len({style.colour for style in VARIANTS.values()}) == len(VARIANTS)
    assert len({style.marker for style in VARIANTS.values()}) == len(VARIANTS)


def test_every_variant_has_a_fixed_look_and_its_own_name() -> None:
    from abench.variants import get_variant, variant_names

    titles = {name: get_variant(name, {}).title for name in variant_names()}
    assert {name: style.title for name, style in VARIANTS.items()} == titles


def test_an_unknown_variant_has_a_stable_look() -> None:
    look = variant_style("my_new_sae")
    assert look == VariantStyle("my_new_sae", "#6f2bab", "d")
    assert variant_style("another") != look
    assert variant_style("my_new_sae", {"my_new_sae": VARIANTS["topk"]}) == VARIANTS["topk"]


# The page


class Tags(HTMLParser):
    """Which tags a page has, which resources it loads, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        """The ids of scripts."""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += [value or "" for name, value in attrs if (tag, name) == ("script", "id")]
        self.sources += [
            value or "" for name, value in attrs if name == "src" or (tag, name) == ("link", "href")
        ]

    def handle_data(self, data: str) -> None:
        self.text += "" if self.cdata_elem == "script" else data


def test_the_page_escapes_what_comes_from_records(report: Path) -> None:
    page = Tags((report / "index.html").read_text())
    assert page.tags.count("script") == len(page.scripts)  # the page's own, which have an id
    assert "b" not in page.tags
    assert "Broke at <script>alert('x')</script> & stopped." in page.text
    assert "Small <b>&</b> fine" in page.text


def test_the_page_stands_alone_and_shows_everything(report: Path) -> None:
    page = Tags((report / "index.html").read_text())
    assert page.tags[0] == "html"
    assert [source[:22] for source in page.sources] == ["data:image/png;base64,"] * 2
    expected = [
        "Failed: Broke",
        "Skipped: No questions.",
        "Judge: rules.",
        "AbsTopK",
        "torch 2.9",
        "cpu",
        "here",
    ]
    assert [text for text in expected if text not in page.text] == []
    assert "jumprelu" not in page.text
    assert "TopK, k = 8, 2048 latents, seed 0" in page.text


def test_a_limited_run_is_flagged_at_the_top(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 1)
    for cell in cells:
        cell["limited"] = True
    write_report(cells, curves, tmp_path / "r", title="T")
    page = (tmp_path / "r" / "index.html").read_text()
    assert page.index("Limited run") < page.index("<table")


# The folder


def test_a_new_report_replaces_the_old_one_and_keeps_other_files(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 1)
    folder = tmp_path / "r"
    write_report(cells, curves, folder, title="First")
    (folder / "notes.txt").write_text("mine")
    (folder / "reconstruction-old.png").write_text("mine, whatever its name")
    written = write_report(cells, {}, folder, title="Second")
    assert "Second" in written.index.read_text()
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "reconstruction-old.png").read_text() == "mine, whatever its name"
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert all(path.is_file() for path in written.files)


def test_a_crash_leaves_the_old_report_whole(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 1)
    folder = tmp_path / "r"
    write_report(cells, curves, folder, title="First")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = {key: curve.drop(columns="mse") for key, curve in curves.items()}
    with pytest.raises(KeyError, match="mse"):
        write_report(cells, broken, folder, title="Second")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_folder_that_is_no_report_is_not_touched(tmp_path: Path) -> None:
    cells, curves = fake_run(("topk",), (8,), 1)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds files but no report"):
        write_report(cells, curves, tmp_path, title="T")
    with pytest.raises(UserError, match="is a file"):
        write_report(cells, curves, tmp_path / "thesis.tex", title="T")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_no_records_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to report"):
        write_report([], {}, tmp_path / "r", title="T")
    assert list(tmp_path.iterdir()) == []
