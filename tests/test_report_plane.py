"""The toy figure: drawn from stored cells alone, one arrow a row of its CSV."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from abench.tasks.recovery.plane import plane_of
from command import Abench

SMALL = ("--tokens", "25600", "--seeds", "0,1", "--set", "evaluation.tokens=2048")


def test_the_toy_run_makes_its_figure(abench: Abench, tmp_path: Path) -> None:
    results = tmp_path / "results"
    ran = abench("run", "toy", *SMALL, "--results", results)
    assert ran.code == 0, ran.err
    report = results / "reports" / "toy"
    assert {"toy.png", "toy.pdf", "toy.csv"} <= {file.name for file in report.iterdir()}
    arrows = pd.read_csv(report / "toy.csv")
    panels = arrows.groupby(["variant", "width", "seed"])
    assert len(panels) == 2 * 2 * 2
    for (variant, width, _), panel in panels:
        true, learnt = panel[panel.kind == "true"], panel[panel.kind == "learnt"]
        assert set(true.name[(true.x**2 + true.y**2) > 0.5]) == {"male", "female", "people"}
        assert len(true) == 9
        assert 0 < learnt.name.nunique() <= width
        assert (learnt.sign < 0).any() == (variant == "abstopk")
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "<h4>Directions</h4>" in page
    # Without its store's SAEs, from the cells alone, the report comes out the same.
    before = {file: file.read_bytes() for file in report.glob("toy.*")}
    assert abench("report", "toy", *SMALL, "--results", results).code == 0
    assert {file: file.read_bytes() for file in report.glob("toy.*")} == before


@pytest.mark.parametrize("command", [("run", "--dry-run"), ("status",)])
def test_a_synthetic_model_needs_no_weights(abench: Abench, tmp_path: Path, command: tuple[str, ...]) -> None:
    results = tmp_path / "results"
    small = ("--set", "evaluation.tokens=2048", "--tokens", "20480", "--variants", "abstopk")
    model = ("--model", "synthetic", "--tasks", "core,recovery")
    assert abench("run", *model, *small, "--results", results).code == 0
    shown = abench(*command, *model, *small, "--results", results)
    assert shown.code == 0, shown.err
    assert "done" in shown.out
    assert "skipped" in shown.out


def test_other_runs_have_no_such_figure(abench: Abench, tmp_path: Path) -> None:
    results = tmp_path / "results"
    small = ("--set", "evaluation.tokens=2048", "--tokens", "20480", "--variants", "abstopk")
    assert (
        abench("run", "--model", "synthetic", "--tasks", "recovery", *small, "--results", results).code == 0
    )
    assert not list((results / "reports" / "default").glob("toy*"))


@pytest.mark.parametrize(
    "directions", [[[1.0], [-1.0]], [[0.6, 0.8], [-0.6, -0.8]], [[3.0, 4.0], [6.0, 8.0]]]
)
def test_directions_on_one_line_span_no_plane(directions: list[list[float]]) -> None:
    """Such as those of a group of features that overlap entirely, or of a single dimension."""
    plane = plane_of(torch.tensor(directions))
    assert bool(plane.isfinite().all())
    torch.testing.assert_close(plane[:, 0].norm(), torch.tensor(1.0))
    assert not plane[:, 1].any()


def test_two_directions_span_their_plane() -> None:
    directions = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    plane = plane_of(directions)
    torch.testing.assert_close(plane.T @ plane, torch.eye(2))
    torch.testing.assert_close(directions @ plane @ plane.T, directions)
