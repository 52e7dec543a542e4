"""`abench report`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from abench.cli.options import groups_of, results_option, run_options
from abench.cli.reported import plans_to_report
from abench.cli.written import echo_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abench.results.store import Store
    from abench.runs.plan import Plan
    from abench.runs.planner import RunRequest
    from abench.runs.report_of_plan import Written


@click.command()
@run_options
@results_option
@click.option(
    "--latents",
    type=click.IntRange(1, 5000),
    help="Also search held-out text for the contexts of N latents per SAE, which the page then shows.",
)
@click.option("--serve", is_flag=True, help="Show the page on 127.0.0.1 and refresh it until Ctrl-C.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="With --serve: the port; 0 takes any free one.",
)
def report(request: "RunRequest", results: Path, latents: int | None, serve: bool, port: int) -> int:
    """Rewrite tables and figures from the results folder, without computing anything.

    Takes the options of `abench run`, which select the contents of the report. Without options, a run that
    has a report, but of which nothing has been computed as configured, is reported as it was last run.

    A report that has values is never replaced by one that lacks them; choose another --name for that. If the
    results folder is read-only, the tables are printed and nothing is written.

    With --latents, the model is loaded and the contexts of some latents, drawn at random from those that
    fire, are stored in the results folder, from where every later report takes them.

    With --serve, the page is shown at an address of this machine, which other machines cannot reach. The
    report is written again, and the page reloads, whenever cells of the run are settled. Ctrl-C ends the
    display and not the run; the exit status is 0.
    """
    from abench.errors import UserError
    from abench.results.collecting import collection_paused
    from abench.results.store import Store

    store = Store.open(results, create=False)
    groups = groups_of(request)
    if serve and len(groups) > 1:
        raise UserError(f"--serve shows one report, but {request.config} writes {len(groups)}: name a folder")
    codes = []
    for group in groups:
        with collection_paused():
            plans = plans_to_report(group, store)
        if latents is not None:
            from abench.runs.latent_contexts import search_contexts

            for plan in plans:
                search_contexts(plan, store, latents, lambda text: click.echo(text, err=True))
        written = _write(plans, store)
        if written.refusal is not None:
            raise UserError(written.refusal)
        codes.append(echo_report(written))
    for sentence in store.damaged:
        click.echo(sentence, err=True)
    if serve and written.problem is None:
        from abench.cli.serve import serve_report

        return serve_report(written, plans, store, lambda: _write(plans, store), port)
    return max(codes)


def _write(plans: "Sequence[Plan]", store: "Store") -> "Written":
    from abench.results.collecting import collection_paused
    from abench.runs.report_of_plan import write_plan_report

    first, *others = plans
    with collection_paused():
        return write_plan_report(first, store, others=others)
