"""`abench report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.cli.options import plan_of, results_option, run_options

if TYPE_CHECKING:
    from abench.report_of_plan import Written


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
    show_report(written)


def show_report(written: "Written") -> None:
    """Print the tables and where the report is.

    A results folder that is read-only is shown as it is, with a sentence; raises StorageError where writing
    the report failed for another reason.
    """
    click.echo(written.text)
    if written.refused is None:
        click.echo(f"\nReport: {written.folder / 'index.html'}\nTables, figures, data: {written.folder}")
    elif written.refused.read_only:
        click.echo(f"the report was not written again: {written.refused}", err=True)
    else:
        raise written.refused
