"""`abench report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from abench.cli.options import plan_of, results_option, run_options


@click.command()
@run_options
@results_option
def report(asked: Mapping[str, Any], results: Path) -> None:
    """Write tables and figures again from the results folder; nothing is computed.

    Takes the options of `abench run`, which say what belongs in the report.
    """
    from abench.report_of_plan import write_plan_report
    from abench.store import Store

    store = Store.open(results, create=False)
    written = write_plan_report(plan_of(asked, fetch=False), store)
    for sentence in store.damaged:
        click.echo(sentence, err=True)
    click.echo(written.text)
    click.echo(f"\nReport: {written.folder / 'index.html'}\nTables, figures, data: {written.folder}")
