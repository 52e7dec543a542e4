"""A figure is copied from the report before only if it would be drawn as it is there, and is whole there."""

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_cells import run_of
from test_report_files import fake_run

from abench.report import VariantStyle, drawings, write_report
from abench.report.csvfile import as_text, write_frame
from abench.report.curves import Curve
from abench.report.manifest import MANIFEST, manifest_of, read_manifest
from abench.report.own_figures import drawn as attempt_drawing
from abench.report.style import NO_STYLES

Cells = list[dict[str, Any]]
Run = tuple[Cells, dict[str, Curve]]
FIGURES = {"pareto", "reconstruction", "task_scores"}


def small_run() -> Run:
    cells, curves = fake_run(("topk", "abstopk"), (8,), 2)
    core = [cell for cell in cells if cell["labels"]["task"] == "core"]
    return [*core, *run_of(("topk", "abstopk"), seeds=2, tasks=("scr", "tpp"))], dict(curves)


@pytest.fixture
def run() -> Run:
    return small_run()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the run."""
    folder = tmp_path_factory.mktemp("written") / "r"
    write_report(*small_run(), folder, title="T")
    return folder


@pytest.fixture
def whole(written: Path, tmp_path: Path) -> dict[str, bytes]:
    """The same report in the folder `r`."""
    shutil.copytree(written, tmp_path / "r")
    return content(written)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of figures that are drawn; empty it to look again."""
    names: set[str] = set()
    save = drawings._save

    def noted(make: Callable[[], Any], stem: Path) -> None:
        names.add(stem.name)
        save(make, stem)

    monkeypatch.setattr(drawings, "_save", noted)
    return names


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def report(run: Run, folder: Path, **options: Any) -> dict[str, bytes]:
    write_report(*run, folder, title="T", **options)
    return content(folder)


def changed_score(run: Run) -> Run:
    cells, curves = run
    first = next(cell for cell in cells if cell["labels"]["task"] == "core")
    first["scores"] = first["scores"] | {"nmse": first["scores"]["nmse"] * 1.0000001}
    return cells, curves


def test_a_report_of_the_same_cells_draws_nothing_and_is_the_same_to_the_last_byte(
    run: Run, whole: dict[str, bytes], tmp_path: Path, drawn: set[str]
) -> None:
    assert report((run[0][::-1], run[1]), tmp_path / "r") == whole
    assert drawn == set()
    assert report(run, tmp_path / "fresh") == whole
    assert drawn == FIGURES


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        (changed_score, {}, {"reconstruction"}),
        (lambda run: (run[0], dict(list(run[1].items())[:2])), {}, {"reconstruction"}),
        (
            lambda run: ([cell for cell in run[0] if cell["labels"]["task"] != "tpp"], run[1]),
            {},
            {"task_scores"},
        ),
        (lambda run: ([c for c in run[0] if c["labels"]["seed"] == 0], run[1]), {}, FIGURES),
        (lambda run: run, {"styles": {"topk": VariantStyle("Top K", "#123456", "s")}}, FIGURES),
        (lambda run: run, {"footnotes": ["Not in a figure."]}, set()),
    ],
    ids=["a score", "fewer curves", "fewer tasks", "fewer seeds", "another look", "another note"],
)
def test_what_changes_a_figure_has_it_drawn_again(
    change: Callable[[Run], Run],
    options: dict[str, Any],
    expected: set[str],
    run: Run,
    whole: dict[str, bytes],
    tmp_path: Path,
    drawn: set[str],
) -> None:
    other = change(run)
    after = report(other, tmp_path / "r", **options)
    assert drawn == expected
    assert {name for name in FIGURES if after[f"{name}.png"] != whole[f"{name}.png"]} <= expected
    assert after == report(other, tmp_path / "fresh", **options)


def test_other_code_or_another_version_of_a_package_draws_everything_again(
    run: Run,
    whole: dict[str, bytes],
    tmp_path: Path,
    drawn: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_this = drawings._drawn_with()
    assert "matplotlib" in with_this
    monkeypatch.setattr(drawings, "_drawn_with", lambda: with_this + "another")
    report(run, tmp_path / "r")
    assert drawn == FIGURES


@pytest.mark.parametrize(
    ("name", "damage", "kept"),
    [
        ("reconstruction.png", Path.unlink, False),
        ("reconstruction.pdf", Path.unlink, False),
        ("reconstruction.pdf", lambda file: file.write_bytes(file.read_bytes()[:-1]), True),
        ("reconstruction.png", lambda file: file.write_bytes(b"my own picture"), True),
        ("reconstruction.png", lambda file: (file.unlink(), file.mkdir()), True),
        ("reconstruction.png", lambda file: (file.unlink(), file.symlink_to("nowhere")), True),
    ],
    ids=["deleted PNG", "deleted PDF", "cut short", "edited", "a folder", "a broken link"],
)
def test_a_figure_that_is_not_whole_is_drawn_again_and_an_edited_one_is_kept_beside_it(
    name: str,
    damage: Callable[[Path], object],
    kept: bool,
    run: Run,
    whole: dict[str, bytes],
    tmp_path: Path,
    drawn: set[str],
) -> None:
    damage(tmp_path / "r" / name)
    write_report(*run, tmp_path / "r", title="T")
    assert drawn == {"reconstruction"}
    after = {file.name for file in (tmp_path / "r").iterdir()}
    stem, _, ending = name.rpartition(".")
    assert after == whole.keys() | ({f"{stem}.kept.{ending}"} if kept else set())
    assert {each: (tmp_path / "r" / each).read_bytes() for each in whole} == whole


@pytest.mark.parametrize(
    "spoil",
    [
        lambda manifest: manifest.pop("figures"),
        lambda manifest: manifest.update(figures=["reconstruction"]),
        lambda manifest: manifest["figures"].update(reconstruction="0" * 64, task_scores=3, pareto=""),
        lambda manifest: manifest["files"].update({f"{name}.png": "0" * 64 for name in FIGURES}),
    ],
    ids=["an earlier version's", "of another form", "other inputs", "other checksums"],
)
def test_what_the_list_of_files_does_not_vouch_for_is_drawn_again(
    spoil: Callable[[dict[str, Any]], object],
    run: Run,
    whole: dict[str, bytes],
    tmp_path: Path,
    drawn: set[str],
) -> None:
    file = tmp_path / "r" / MANIFEST
    manifest = json.loads(file.read_text())
    spoil(manifest)
    file.write_text(json.dumps(manifest))
    write_report(*run, tmp_path / "r", title="T")
    assert drawn == FIGURES
    assert {each: (tmp_path / "r" / each).read_bytes() for each in whole} == whole


def test_a_figure_that_could_not_be_made_is_not_listed(written: Path, tmp_path: Path) -> None:
    def failing(*_: object) -> Any:
        raise RuntimeError("it broke")

    def write(_: object, into: drawings.Drawings, __: object) -> list[Path]:
        return [into.add("toy", failing, pd.DataFrame({"x": [1], "y": [2]}), "heading")]

    album = drawings.Drawings(tmp_path, tmp_path / "none")
    files, problem = attempt_drawing("The figure", write, [], album, NO_STYLES)
    assert (files, list(tmp_path.iterdir())) == ([], [])
    assert problem is not None
    assert "it broke" in problem
    manifest = manifest_of(tmp_path, [], lambda _: None, album.inputs)
    assert (set(album.inputs), manifest.figures) == ({"toy"}, {})
    listed = read_manifest(written)
    assert listed is not None
    assert set(listed.figures) == FIGURES


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats() | texts


@given(st.lists(st.tuples(values, texts, st.floats(), st.none() | st.integers(0, 9)), max_size=12))
def test_a_frame_is_written_as_the_csv_module_writes_its_values(rows: list[tuple[Any, ...]]) -> None:
    names = ["any", "text", "float", "int"]
    dtypes = ["object", "object", "float64", "Int64"]
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * 4, strict=True))
    frame = pd.DataFrame(
        {n: pd.Series(list(columns[n]), dtype=dtype) for n, dtype in zip(names, dtypes, strict=True)}
    )
    expected = io.StringIO()
    writer = csv.writer(expected, lineterminator="\n")
    writer.writerow(names)
    # NaN and None are both absent; a text that a spreadsheet would compute gets its apostrophe.
    writer.writerows([None if v != v else as_text(v) for v in row] for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.csv"
        write_frame(frame, file)
        assert file.read_bytes().decode() == expected.getvalue()
