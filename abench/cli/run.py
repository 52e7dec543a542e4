"""`abench run`."""

import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.cli.options import SECONDS, WORDS, check_groups, groups_of, plan_of, results_option, run_options
from abench.cli.text import columns, count
from abench.cli.written import echo_report
from abench.sanitize.printable import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from abench.results.jobs import Cell
    from abench.results.store import Record, Status, Store
    from abench.runs.outcome import Outcome
    from abench.runs.plan import Plan
    from abench.runs.planner import RunRequest

EXIT_DONE, EXIT_SOME_FAILED = 0, 3

MOST_NAMED = 5
"""A message about a failure names at most so many of the cells that it concerns."""
MOST_LISTED = 60
"""A dry run lists its cells one by one if there are no more than this."""


@click.command()
@run_options
@results_option
@click.option(
    "--device",
    "devices",
    type=WORDS,
    help="cpu, cuda, cuda:1, several that compute side by side, e.g. cuda:0,cuda:1, or auto, which spreads a "
    "model that is too large for one GPU over all of them.  [default: the GPU if there is one]",
)
@click.option(
    "--executor",
    help="What computes the run: serial (this process), devices (one process per device) or ray (a Ray "
    "cluster).  [default: serial, or devices if --device names several]",
)
@click.option("--ray-address", help="With --executor ray: the cluster, e.g. 10.0.0.1:6379.")
@click.option(
    "--checkpoint-every",
    type=SECONDS,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Shortest time between training checkpoints.",
)
@click.option(
    "--from",
    "repeated",
    type=click.Path(path_type=Path, exists=True),
    help="Repeat the run of a report, given its provenance.json or its folder, in place of CONFIG, and print "
    "where it differs.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print what would be computed and what it costs, without computing it."
)
@click.option(
    "--calibration/--no-calibration",
    default=True,
    envvar="ABENCH_CALIBRATION",
    help="With --dry-run, measure this machine for some seconds, once, to state times; the default.",
)
def run(
    request: "RunRequest",
    results: Path,
    devices: tuple[str, ...] | None,
    executor: str | None,
    ray_address: str | None,
    checkpoint_every: float,
    repeated: Path | None,
    dry_run: bool,
    calibration: bool,
) -> int:
    """Train SAEs, score them and print the table.

    CONFIG is a YAML file or the name of a run that comes with abench (see `abench list configs`). Options
    override it; a report's folder in place of CONFIG stands for its run. The default is the run
    `default`: AbsTopK, TopK and JumpReLU at two sparsities on the bundled model. Run the same command
    again to resume: results that are already in the results folder are not computed again.
    """
    groups = groups_of(request)
    check_groups(groups)
    if dry_run:
        device = devices[0] if devices else None
        for each in (each for group in groups for each in group):
            _dry_run(each, results, device, calibration=calibration)
        return EXIT_DONE
    from abench.executors.base import Placement
    from abench.executors.registry import executor_for
    from abench.progress import duration, for_stderr
    from abench.results.collecting import collection_paused
    from abench.results.store import Store
    from abench.runs.outcome import report_damage
    from abench.runs.report_of_plan import write_plan_report

    started = time.monotonic()
    # Read first, because this run's report may replace the one that is repeated.
    recorded = _recorded(repeated)
    progress = for_stderr()
    placement = Placement(devices or (), ray_address, checkpoint_every, request.plugins)
    computing = executor_for(executor, placement)
    # Once for all runs, and not before the first plan: a request that is refused creates no folder.
    opened = cache(lambda: Store.open(results, create=True))
    codes, plans, outcomes = [], [], []
    for group in groups:
        done = []
        for each in group:
            plan = plan_of(each, fetch=True, here=computing.computes_here)
            store = opened()
            progress.say(_summary(plan))
            done.append((plan, computing.run(plan, store, progress)))
            store.save_standings()
            report_damage(store, progress)
        first, *others = [plan for plan, _ in done]
        with collection_paused():
            written = write_plan_report(first, store, others=others)
        codes.append(echo_report(written))
        plans += [plan for plan, _ in done]
        outcomes += [outcome for _, outcome in done]
    click.echo(f"{_counts(outcomes)}, {duration(time.monotonic() - started)}")
    if recorded is not None:
        click.echo(f"\nCompared with {repeated}:")
        _echo_repetition(recorded, plans, store, outcomes)
    failed = [_explain_failures(plan, outcome) for plan, outcome in zip(plans, outcomes, strict=True)]
    return max(failed) or max(codes)


def _recorded(repeated: Path | None) -> dict[str, Any] | None:
    """What is known of the run to repeat; None if none is given."""
    from abench.config import provenance_file, read_provenance

    if repeated is None:
        return None
    # A path that is neither is reported by the reader.
    return read_provenance(provenance_file(str(repeated)) or repeated)


def _echo_repetition(
    recorded: dict[str, Any], plans: "Sequence[Plan]", store: "Store", outcomes: "Sequence[Outcome]"
) -> None:
    from abench.runs.repetition import repetition

    for sentence in repetition(recorded, plans, store):
        click.echo(visible(sentence))
    if cached := sum(outcome.cached for outcome in outcomes):
        click.echo(f"{count(cached, 'cell')} of this run came from the results folder.")


def _dry_run(request: "RunRequest", results: Path, device: str | None, *, calibration: bool) -> None:
    from abench.cli.price import price_text
    from abench.lm.catalogue import absent_weights
    from abench.pricing.price import price_of
    from abench.results.collecting import collection_paused
    from abench.results.store import Store
    from abench.runs.activation_caching import caching_sentence
    from abench.runs.outcome import is_settled

    with collection_paused():
        plan = plan_of(request, fetch=False)
        known = plan.model.commit is not None and Store.exists(results)
        store = Store.open(results, create=False) if known else None
        standings = {cell.key: store.standing(cell) if store else "missing" for cell in plan.cells}
        if store:
            store.save_standings()
        planned = _planned(plan, standings)
    click.echo(_summary(plan))
    click.echo(planned)
    place, rates = "cpu", None
    remains = not all(is_settled(each) for each in standings.values())
    # Looking for devices imports torch, which takes longer than all else if nothing remains to be done.
    if calibration and (remains or device):
        from abench.lm.devices import computing_device, usable_device
        from abench.pricing.measured import measuring

        place = computing_device(usable_device(device))
        rates = measuring(place)
    click.echo("")
    price = price_of(plan, store, device=place, rates=rates, standings=standings)
    click.echo(price_text(plan, price, results, place))
    for sentence in (_shared_reading(plan), caching_sentence(plan), absent_weights(plan.model.config)):
        if sentence is not None:
            click.echo(sentence)


def _planned(plan: "Plan", standings: "Mapping[str, Status]") -> str:
    """The cells with their status; for a large run their numbers by task."""

    def planned(cell: "Cell") -> str:
        status = standings[cell.key]
        return "to do" if status in ("missing", "damaged") else status

    if len(plan.cells) <= MOST_LISTED:
        rows = [[*cell.labels().values(), planned(cell)] for cell in plan.cells]
        return columns(rows, [*plan.cells[0].labels(), "status"])
    numbers = Counter((cell.task.name, cell.view, planned(cell)) for cell in plan.cells)
    return columns([[*kind, number] for kind, number in numbers.items()], ["task", "view", "status", "cells"])


def _shared_reading(plan: "Plan") -> str | None:
    """What the SAEs of a site save by sharing forward passes; None where there are none."""
    from abench.runs.plan_cost import training_cost

    cost = training_cost(plan)
    if cost is None:
        return None
    trained = [sae for sae in plan.saes if sae.trained]
    saes = count(len(trained), "SAE")
    shared = (
        f"training these {saes} costs about {cost.all_over_first:.2g} times as much as training one per site"
        if len(trained) > len({sae.site for sae in trained})
        else f"another SAE per site would add about {cost.first_saes / (cost.reading + cost.first_saes):.0%}"
    )
    return (
        f"Reading the text costs about {cost.reading / cost.first_saes:.2g} times as much as the training "
        f"steps of one SAE per site (estimated from the sizes). All SAEs of a site share it: {shared}."
    )


def _summary(plan: "Plan") -> str:
    from abench.results.jobs import SAEJob

    trained = [sae for sae in plan.saes if isinstance(sae, SAEJob)]
    trainings = {sae.training for sae in trained}
    lengths = sorted({(each.tokens, each.steps, each.batch_size) for each in trainings})
    each = " or ".join(f"{tokens:,} tokens each ({n:,} steps of {batch:,})" for tokens, n, batch in lengths)
    saes = f"{count(len(plan.saes), 'SAE')} at {count(len(plan.groups), 'site')}"
    if trained and len(trained) < len(plan.saes):
        saes += f", {len(trained)} of them to train"
    parts = [f"{saes}, {each}" if trained else saes, f"{count(len(plan.cells), 'cell')} to score"]
    return f"{plan.model.config.title}: {'; '.join(parts)}"


def _counts(outcomes: "Sequence[Outcome]") -> str:
    computed, cached = (sum(getattr(each, name) for each in outcomes) for name in ("computed", "cached"))
    skipped, failed = (sum(len(getattr(each, name)) for each in outcomes) for name in ("skipped", "failed"))
    parts = [f"{count(computed, 'cell')} computed", f"{cached} from the results folder"]
    parts += [f"{skipped} skipped"] if skipped else []
    parts += [f"{failed} failed"] if failed else []
    return ", ".join(parts)


def _explain_failures(plan: "Plan", outcome: "Outcome") -> int:
    for refused in plan.refused:
        click.echo(f"failed: {refused.name}: {visible(refused.reason)}", err=True)
    by_cause: dict[str, list[Record]] = {}
    for record in outcome.failed:
        by_cause.setdefault(visible(str(record.reason)), []).append(record)
    if len(outcome.failed) > 1:
        reasons = count(len(by_cause), "reason")
        click.echo(f"{len(outcome.failed)} cells failed for {reasons}", err=True)
    for reason, records in by_cause.items():
        click.echo(f"failed: {_cells(records)}: {reason}", err=True)
        if key := next((record.key[:12] for record in records if record.traceback), None):
            click.echo(f"  `abench show {key}` prints the traceback", err=True)
    return EXIT_SOME_FAILED if outcome.failed or plan.refused else EXIT_DONE


def _cells(records: "Sequence[Record]") -> str:
    """The cells that failed for one reason; many are counted."""
    names = []
    for record in records[:MOST_NAMED]:
        labels = record.labels
        sizes = (f"{name}={labels[name]}" for name in ("k", "seed") if labels[name] is not None)
        names.append(f"{' '.join((labels['variant'], *sizes))}, {labels['task']} ({labels['view']})")
    more = len(records) - len(names)
    return "; ".join([*names, *([f"and {count(more, 'more cell')}"] if more else [])])
