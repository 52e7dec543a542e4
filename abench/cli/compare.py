"""`abench compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.cli.options import (
    groups_of,
    json_option,
    plan_of,
    report_source,
    results_option,
    run_options,
)
from abench.cli.text import echo_json

if TYPE_CHECKING:
    from abench.runs.planner import RunRequest


@click.command()
@run_options
@results_option
@json_option
@click.option(
    "--baseline",
    help="The SAE that all others are compared with.  [default: topk, or the run's first variant]",
)
@click.option(
    "--at-equal",
    type=click.Choice(["k", "l0", "loss_recovered"]),
    help="Compare only at equal k, or at equal L0 or loss recovered, by interpolation along each variant's "
    "curve.  [default: all three]",
)
def compare(
    request: "RunRequest", results: Path, as_json: bool, baseline: str | None, at_equal: str | None
) -> int:
    """Compare the variants of a run with one of them, on the same seeds and items.

    CONFIG and the options are those of `abench run`, or CONFIG is the folder of a report
    (results/reports/NAME). Prints the difference of every metric that has a better direction, its 95 %
    interval, the p value of a paired permutation test (Holm-corrected over the table), wins, ties and losses,
    and the Pareto front of L0 and loss recovered. Nothing is computed or written; see docs/statistics.md.
    """
    from abench.errors import UserError
    from abench.report.comparisons import as_json as plain
    from abench.report.comparisons import compare as compared
    from abench.report.comparisons import names_of, plain_tables, text_tables
    from abench.report.equal import AXES, TITLES
    from abench.report.pairs import baseline_in
    from abench.results.collecting import collection_paused

    with collection_paused():
        records = _records(request, results)
    found = compared(records, baseline_in(records, baseline))
    if at_equal in AXES and at_equal not in found.equal:
        raise UserError(
            f"nothing can be compared at equal {TITLES[at_equal]}: it is measured by the task core, of which "
            "there is no score here"
        )
    axes = (at_equal,) if at_equal else ("k", *AXES)
    if as_json:
        echo_json([plain(each) for each in found.all() if each.at in axes])
    else:
        click.echo(plain_tables(text_tables(found, names_of(records), axes=axes)).strip("\n"))
    return 0


def _records(request: "RunRequest", results: Path) -> list[dict[str, Any]]:
    """The cells with values, of a report's folder or of a run. Raises UserError if there are none."""
    from abench.errors import UserError
    from abench.report.reread import records_of_report
    from abench.report.sound import sound_records

    folder = report_source(request.config)
    if folder is not None and folder.is_dir():
        given = [request.spelling[key] for key, value in request.options.items() if value is not None]
        if others := [name for name in given if name != "--metrics"] + ["--set"] * bool(request.assignments):
            raise UserError(
                f"{folder} is the folder of a report, so {', '.join(others)} has no effect: leave it out"
            )
        records = records_of_report(folder, request.options.get("metrics"))
    else:
        records = _of_run(request, results)
    sound = [dict(each) for each in sound_records(records)]
    if not any(each["status"] == "done" for each in sound):
        raise UserError("there is nothing to compare: no cell has a value yet; start with `abench run`")
    return sound


def _of_run(request: "RunRequest", results: Path) -> list[dict[str, Any]]:
    from abench.errors import UserError
    from abench.results.store import Store
    from abench.runs.report_of_plan import records_of

    store = Store.open(results, create=False)
    groups = groups_of(request)
    if len(groups) > 1:
        raise UserError(f"{request.config} writes {len(groups)} reports: name the folder of one of them")
    records = [each for member in groups[0] for each in records_of(plan_of(member, fetch=False), store)]
    for sentence in store.damaged:
        click.echo(sentence, err=True)
    return records
