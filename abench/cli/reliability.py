"""`abench reliability`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abench.cli.options import WORDS, json_option, results_option, run_options
from abench.cli.text import count, echo_json

if TYPE_CHECKING:
    from abench.runs.planner import RunRequest

EXIT_DONE, EXIT_SOME_FAILED = 0, 3


@click.command()
@run_options
@results_option
@json_option
@click.option(
    "--reseeds",
    type=click.IntRange(2, 100),
    default=10,
    show_default=True,
    help="Number of evaluation seeds (0, 1, ...) with which one SAE is scored.",
)
@click.option(
    "--device", "devices", type=WORDS, help="cpu, cuda or cuda:1.  [default: the GPU if there is one]"
)
def reliability(
    request: "RunRequest", results: Path, as_json: bool, reseeds: int, devices: tuple[str, ...] | None
) -> int:
    """Measure how far every metric can be trusted, and print the table.

    For one SAE (by default topk at k = 16, every task for the model): the noise of re-seeding the evaluation,
    the noise of training, and whether the metric tells SAEs at 5, 10, 25, 50 and 100 % of the training tokens
    apart; where it is known what is in the model, also whether the metric orders these SAEs as the truth
    does. Takes the options of `abench run`; its cells are ordinary cells, so that nothing is computed
    twice. Writes reliability.csv and reliability.md to the folder of the report, results/reports/reliability.
    """
    from abench.executors.base import Placement
    from abench.executors.registry import executor_for
    from abench.progress import for_stderr
    from abench.reliability.figures import figures_of, values_of
    from abench.reliability.study import study_of
    from abench.reliability.table import tables_of, write_tables
    from abench.reliability.validity import truth_of, why_unknown, with_validity
    from abench.report.comparisons import plain_tables
    from abench.results.store import Store
    from abench.runs.report_of_plan import records_of
    from abench.storage.faults import writing

    computing = executor_for(None, Placement(devices or (), plugins=request.plugins))
    study = study_of(request, reseeds, fetch=True, say=partial(click.echo, err=True))
    store, progress = Store.open(results, create=True), for_stderr()
    plans = list(study.plans())
    failed = 0
    for number, plan in enumerate(plans, 1):
        progress.say(f"run {number} of {len(plans)}: {count(len(plan.cells), 'cell')}")
        failed += len(computing.run(plan, store, progress).failed)
    trained = records_of(study.training, store)
    by_share = [records_of(plan, store) for _, plan in study.shares]
    records = [*trained, *(record for each in by_share for record in each)]
    truth, unknown = truth_of(records, study.truths), why_unknown(records, study.truths)
    figures = figures_of(
        # Without a truth, the note gives the reason, in place of rows without values.
        [each for each in trained if truth or each["labels"]["task"] not in study.truths],
        values_of(record for plan in study.reseeded for record in records_of(plan, store)),
        values_of(trained),
        [values_of(each) for each in by_share],
    )
    figures = with_validity(figures, records, truth)
    folder = store.report_folder(study.training.config.name)
    with writing(folder):
        write_tables(figures, folder, unknown)
    if as_json:
        echo_json(
            [each.place._asdict() | {k: v for k, v in vars(each).items() if k != "place"} for each in figures]
        )
    else:
        click.echo(plain_tables(tables_of(figures, unknown)).strip("\n"))
        click.echo(f"\nTables: {folder}")
    if failed:
        click.echo(f"{count(failed, 'cell')} failed; `abench status` says why", err=True)
    return EXIT_SOME_FAILED if failed else EXIT_DONE
