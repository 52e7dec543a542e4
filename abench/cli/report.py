"""`abench report`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from abench.cli.options import groups_of, plan_of, results_option, run_options
from abench.cli.written import echo_report

if TYPE_CHECKING:
    from abench.runs.planner import RunRequest


@click.command()
@run_options
@results_option
def report(request: "RunRequest", results: Path) -> int:
    """Rewrite tables and figures from the results folder, without computing anything.

    Takes the options of `abench run`, which select the contents of the report. A report that has values is
    never replaced by one that lacks them; choose another --name for that. If the results folder is read-only,
    the tables are printed and nothing is written.
    """
    from abench.errors import UserError
    from abench.results.collecting import collection_paused
    from abench.results.store import Store
    from abench.runs.report_of_plan import write_plan_report

    store = Store.open(results, create=False)
    codes = []
    for group in groups_of(request):
        with collection_paused():
            first, *others = [plan_of(each, fetch=False) for each in group]
            written = write_plan_report(first, store, others=others)
        if written.refusal is not None:
            raise UserError(written.refusal)
        codes.append(echo_report(written))
    for sentence in store.damaged:
        click.echo(sentence, err=True)
    return max(codes)
