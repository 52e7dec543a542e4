"""The report in the terminal: its tables, and where it was written or why it was not."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from abench.runs.report_of_plan import Written

EXIT_DONE, EXIT_NOT_WRITTEN = 0, 2


def echo_report(written: "Written") -> int:
    """Print the tables and the report's folder, or on stderr why nothing was written; return the exit status.

    The status is also 0 if the results folder is read-only, where only the tables can be printed.
    """
    click.echo(written.text)
    for sentence in written.kept:
        click.echo(sentence, err=True)
    if written.problem is None:
        click.echo(f"\nReport: {written.folder / 'index.html'}\nTables, figures, data: {written.folder}")
        return EXIT_DONE
    click.echo(f"abench: {written.problem}", err=True)
    return EXIT_DONE if written.read_only else EXIT_NOT_WRITTEN
