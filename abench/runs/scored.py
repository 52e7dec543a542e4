"""The scores of a plan, as Python users see them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abench.errors import UserError
from abench.report import summarise, tidy
from abench.report.sound import sound_records
from abench.results.store import Record, Store
from abench.runs.plan import Plan
from abench.runs.report_of_plan import records_of, write_plan_report
from abench.runs.runner import Outcome

if TYPE_CHECKING:
    import pandas as pd

_ROW = ["model", "site", "variant", "k", "width", "view"]


@dataclass(repr=False)
class Scored:
    """The result of `abench.evaluate` and `abench.run`; its scores are in a results folder, or in memory."""

    plan: Plan
    store: Store
    outcome: Outcome

    @property
    def failed(self) -> dict[str, str]:
        """What has no score -> why: SAEs that cannot be used, and cells (`SAE task (view)`) that failed."""
        return {each.name: each.reason for each in self.plan.refused} | _reasons(self.outcome.failed)

    @property
    def skipped(self) -> dict[str, str]:
        """Cells (`SAE task (view)`) in which a score would mean nothing -> why."""
        return _reasons(self.outcome.skipped)

    def data(self) -> "pd.DataFrame":
        """One row per cell and metric, as in a report's data.csv (`abench.report.tidy`)."""
        return tidy(sound_records(records_of(self.plan, self.store)))

    def table(self, metrics: str = "headline") -> "pd.DataFrame":
        """One row per SAE and view, one column per metric: the mean over seeds.

        `metrics` is `headline` for the metrics of the printed table, or `all`. A value that does not mean
        anything (`valid` is False in `data`), or that some seeds lack, is absent. Raises UserError for other
        `metrics`.
        """
        if metrics not in ("headline", "all"):
            raise UserError(f"metrics must be 'headline' or 'all' (got {metrics!r:.80})")
        summary = summarise(self.data())
        wanted = [
            f"{task.name} {metric.name}"
            for task in {id(cell.task): cell.task for cell in self.plan.cells}.values()
            for metric in task.metrics
            if metrics == "all" or metric.headline
        ]
        named = summary.assign(column=summary["task"] + " " + summary["metric"])
        # Labels that an SAE lacks (k, for one whose files do not state it) would be dropped from an index.
        rows = named[_ROW].drop_duplicates().reset_index(drop=True)
        for name in wanted:
            own = named[named["column"] == name][[*_ROW, "mean"]].rename(columns={"mean": name})
            rows = rows.merge(own, on=_ROW, how="left")
        table: pd.DataFrame = rows.rename(columns={"variant": "sae"})
        return table

    def report(self, folder: str | Path) -> Path:
        """Write tables, figures, data and an HTML page, as `abench run` does; returns the page.

        Raises UserError if the folder holds something else or cannot be written.
        """
        written = write_plan_report(self.plan, self.store, Path(folder))
        if written.problem:
            raise UserError(written.problem)
        return written.folder / "index.html"

    def __repr__(self) -> str:
        counts = [f"{len(self.plan.cells)} cells of {len(self.plan.saes)} SAEs"]
        counts += [f"{len(self.skipped)} skipped"] if self.skipped else []
        counts += [f"{len(self.failed)} failed (see .failed)"] if self.failed else []
        return f"Scored({', '.join(counts)}; .table(), .data(), .report(folder))"


def _reasons(records: list[Record]) -> dict[str, str]:
    return {
        f"{each.labels['variant']} {each.labels['task']} ({each.labels['view']})": str(each.reason)
        for each in records
    }
