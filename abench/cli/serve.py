"""`abench report --serve`: the page of a report, which is written again whenever cells are settled."""

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from abench.cli.written import EXIT_DONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abench.report.serving import ServedReport
    from abench.results.store import Store
    from abench.runs.plan import Plan
    from abench.runs.report_of_plan import Written

EVERY_SECONDS = 1.0
_MOST_TIME = 0.2
"""The largest share of the time that may be spent on looking and writing."""


def serve_report(
    written: "Written", plans: "Sequence[Plan]", store: "Store", write: "Callable[[], Written]", port: int
) -> int:
    """Serve a written report until Ctrl-C; `write` writes it again. Returns the exit status."""
    from abench.report.serving import ServedReport, serving

    report, cells = ServedReport(written.folder), [cell for plan in plans for cell in plan.cells]
    try:
        with serving(report, port) as address:
            click.echo(f"\nServing the report at {address} (Ctrl-C ends it)")
            _keep_fresh(report, lambda: [store.standing(cell) for cell in cells], write)
    except KeyboardInterrupt:
        click.echo("")
    return EXIT_DONE


def _keep_fresh(
    report: "ServedReport", look: Callable[[], list[str]], write: "Callable[[], Written]"
) -> None:
    """Write the report whenever the states of its cells have changed; never returns."""
    last = None
    problem = None
    while True:
        started = time.monotonic()
        found = look()
        if last is not None and found != last:
            written = write()
            if written.problem is not None and written.problem != problem:
                click.echo(f"abench: {written.problem}", err=True)
            problem = written.problem
        last = found
        report.note = _note(found)
        took = time.monotonic() - started
        time.sleep(max(EVERY_SECONDS, took / _MOST_TIME))


def _note(states: list[str]) -> str:
    """E.g. `3 of 10 cells are settled`; empty if all are."""
    pending = Counter(states)["missing"] + Counter(states)["damaged"]
    return f"{len(states) - pending:,} of {len(states):,} cells are settled" if pending else ""
