"""`abench report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from abench.cli.options import plan_of, results_option, run_options
from abench.cli.written import echo_report


@click.command()
@run_options
@results_option
def report(asked: Mapping[str, Any], results: Path) -> int:
    """Write tables and figures again from the results folder; nothing is computed.

    Takes the options of `abench run`, which say what belongs in the report. A report with values is not
    replaced by one without them: give another --name. From a results folder that may only be read, the
    tables are printed and nothing is written.
    """
    from abench.collecting import collection_paused
    from abench.errors import UserError
    from abench.report_of_plan import write_plan_report
    from abench.store import Store

    store = Store.open(results, create=False)
    with collection_paused():
        written = write_plan_report(plan_of(asked, fetch=False), store)
    for sentence in store.damaged:
        click.echo(sentence, err=True)
    if written.refusal is not None:
        raise UserError(written.refusal)
    return echo_report(written)
