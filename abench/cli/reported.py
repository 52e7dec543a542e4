"""What `abench report NAME` is about: the run as configured, or as it was last reported."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abench.cli.options import groups_of, plan_of

if TYPE_CHECKING:
    from abench.results.store import Store
    from abench.runs.plan import Plan
    from abench.runs.planner import RunRequest


def plans_to_report(group: "Sequence[RunRequest]", store: "Store") -> "list[Plan]":
    """The plans of the runs that share a report.

    If nothing of the run has been computed in this results folder and no options are given, but there is a
    report of this name, these are the plans of the run that it was written for: after `abench run paper
    --model tiny`, `abench report paper` needs no options.
    """
    plans = [plan_of(each, fetch=False) for each in group]
    if any(_has_options(each) for each in group) or _is_begun(plans, store):
        return plans
    folder = store.report_folder(plans[0].config.name)
    run = folder / "run.yaml"
    if not run.is_file():
        return plans
    click.echo(
        f"nothing of {plans[0].config.name} as configured has been computed in this results folder: this is "
        f"the report of `{_command(run)}`",
        err=True,
    )
    request = replace(group[0], config=str(folder))
    return [plan_of(each, fetch=False) for members in groups_of(request) for each in members]


def _has_options(request: "RunRequest") -> bool:
    return bool(request.assignments) or any(value is not None for value in request.options.values())


def _is_begun(plans: "Sequence[Plan]", store: "Store") -> bool:
    return any(store.get_brief(cell) is not None for plan in plans for cell in plan.cells)


def _command(run: Path) -> str:
    """The command in the first line of a report's configuration."""
    with run.open(encoding="utf-8") as lines:
        return next(lines, "").removeprefix("#").strip()
