"""`abench status`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abench.cli.options import groups_of, json_option, plan_of, results_option, run_options
from abench.cli.text import columns, count, echo_json

if TYPE_CHECKING:
    from abench.results.jobs import Cell
    from abench.results.store import Status, Store
    from abench.runs.at_work import Work
    from abench.runs.plan import Plan
    from abench.runs.planner import RunRequest

EXIT_DONE, EXIT_SOME_FAILED, EXIT_INCOMPLETE = 0, 3, 4


@click.command()
@run_options
@results_option
@json_option
@click.option(
    "--watch", is_flag=True, help="Show the progress of all workers until everything is settled, or Ctrl-C."
)
def status(request: "RunRequest", results: Path, as_json: bool, watch: bool) -> int:
    """Show which cells of a run are done, failed, skipped or missing. Takes the options of `abench run`.

    With --watch, show how many cells are settled, which process works on what, and the step of the last
    checkpoint of each SAE in training. On a terminal the display is refreshed every second; elsewhere a line
    is printed for everything that changes. Ctrl-C ends the display and not the run.

    Exit status: 0 everything is done, 3 some cells failed, 4 something is missing or damaged.
    """
    from abench.results.collecting import collection_paused
    from abench.results.store import Store

    if watch and as_json:
        raise click.UsageError("--watch and --json cannot be used together")
    with collection_paused():
        plans = [plan_of(each, fetch=False) for group in groups_of(request) for each in group]
        store = Store.open(results, create=False)
        if not watch:
            rows = [row for plan in plans for row in _rows(plan, store)]
            store.save_standings()
    if watch:
        return _watch(plans, store)
    if as_json:
        echo_json(rows)
    else:
        shown = [
            [*row["labels"].values(), row["status"], row["key"][:12], row["reason"] or ""] for row in rows
        ]
        click.echo(columns(shown, [*rows[0]["labels"], "status", "key", "reason"]))
        parts = [f"{number} {name}" for name, number in Counter(r["status"] for r in rows).items()]
        damaged = len({r["sae_key"] for r in rows if r["sae"] == "damaged"})
        click.echo(", ".join([*parts, *([f"{count(damaged, 'SAE')} damaged"] if damaged else [])]))
    _echo_damage(store)
    return _exit_status([row["status"] for row in rows], [row["sae"] for row in rows])


def _watch(plans: "Sequence[Plan]", store: "Store") -> int:
    """Show the run's progress until it is settled; all looks go through one store, which notices silence."""
    from abench.cli.watch import Look, watching
    from abench.runs.at_work import works_of

    def look() -> Look:
        saes = [store.sae_standing(sae) for plan in plans for sae in plan.saes]
        cells = [store.standing(cell) for plan in plans for cell in plan.cells]
        works = tuple(work for plan in plans for work in works_of(plan, store).values())
        return Look(Counter(cells), Counter(saes), works, _exit_status(cells, saes))

    last = watching(look, is_settled=lambda each: each.code != EXIT_INCOMPLETE and not each.works)
    _echo_damage(store)
    return last.code


def _echo_damage(store: "Store") -> None:
    for sentence in store.damaged:
        click.echo(sentence, err=True)


def _exit_status(cells: "Sequence[Status]", saes: "Sequence[Status]") -> int:
    found = {*cells, *saes}
    # An SAE may be missing if all its cells are there, because nothing remains to be computed from it.
    if "damaged" in found or "missing" in cells:
        return EXIT_INCOMPLETE
    return EXIT_SOME_FAILED if "failed" in found else EXIT_DONE


def _rows(plan: "Plan", store: "Store") -> list[dict[str, Any]]:
    from abench.runs.at_work import works_of

    saes = {sae.key: store.sae_standing(sae) for sae in plan.saes}
    works = works_of(plan, store)
    return [
        {
            "labels": cell.labels(),
            "status": (status := store.standing(cell)),
            "key": cell.key,
            "reason": _reason(cell, status, store, works),
            "file": store.shown(cell),
            "sae": saes[cell.sae.key],
            "sae_key": cell.sae.key,
        }
        for cell in plan.cells
    ]


def _reason(cell: "Cell", status: "Status", store: "Store", works: "Mapping[str, Work]") -> str | None:
    from abench.runs.at_work import why_missing, work_on

    if status in ("failed", "skipped"):
        record = store.get(cell)
        return record.reason if record else None
    if status not in ("missing", "damaged"):
        return None
    if (work := work_on(cell, works)) is not None:
        return f"{work.does} ({work.holder})"
    return (
        "its file is damaged; the next run computes it again"
        if status == "damaged"
        else why_missing(cell, store)
    )
