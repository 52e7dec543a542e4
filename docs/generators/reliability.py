"""What the reference results say of how far the metrics of a task can be trusted."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from generators.borrowed import ROOT
from generators.markdown import table
from generators.tasks import built_in

STUDIES = ROOT / "results" / "reference" / "reliability"
"""The reports of studies, a CSV and a Markdown file each, written by `abench reliability`."""
MEASURED = {
    "reseed": "reseed noise",
    "training": "training noise",
    "discrimination": "discrimination",
    "resolves": "resolves",
}
"""The columns of numbers that are shown, and their headings."""
TELLS = 2.0
"""From this discrimination on, a metric is said to tell the SAEs of the study apart. The noise is known from
few seeds only, so a smaller ratio can be chance."""
SIGNIFICANT = 0.05
Row = Mapping[str, str]


def figures(task: str, studies: Path = STUDIES) -> str:
    """The figures of a task's present version as a table, with what they mean; else a sentence.

    A study in which no headline metric of the task means anything is left out if another one has values.
    """
    version = built_in()[task].version
    found = [
        [row for row in _rows(file) if (row["task"], row["task_version"]) == (task, version)]
        for file in sorted(studies.glob("*.csv"))
    ]
    found = [rows for rows in found if rows]
    if not found:
        return f"No figures of version {version} are among the reference results yet."
    rows = next((rows for rows in found if _measured(rows)), found[0])
    said = sorted({f"{row['variant']}, k = {row['k']}, on {row['model']}, {row['site']}" for row in rows})
    intro = (
        f"Measured for {'; '.join(said)} ([what the columns mean](../statistics.md#reliability-of-metrics)). "
        "A figure that is — could not be computed."
    )
    shown = [
        (f"`{row['metric']}`", row["view"], *(_number(row[name]) for name in MEASURED), _validity(row))
        for row in rows
    ]
    parts = [intro, table(("metric", "view", *MEASURED.values(), "validity"), shown)]
    if lines := [_meaning(row) for row in rows if row["headline"] == "True" and row["view"] == "native"]:
        parts += ["### What these metrics can and cannot tell", "\n".join(lines)]
    return "\n\n".join(parts)


def study(name: str) -> str:
    """The whole table of a stored study with its notes, as the command wrote it."""
    text = (STUDIES / f"{name}.md").read_text(encoding="utf-8")
    return text.partition("\n")[2].strip().replace("## ", "#### ")


def _measured(rows: Sequence[Row]) -> bool:
    """Whether some headline metric has a score that means something."""
    return any(row["mean"] for row in rows if row["headline"] == "True")


def _meaning(row: Row) -> str:
    """One item of a list: what the figures of a metric mean."""
    sentences = filter(None, (_apart(row), _resolution(row), _order(row)))
    return f"- **{row['title']}** " + ". ".join(sentences) + "."


def _apart(row: Row) -> str:
    if not row["discrimination"]:
        return "does not vary in this study, or not enough of it was measured to say what it tells apart"
    ratio = float(row["discrimination"])
    verb = "tells" if ratio >= TELLS else "hardly tells"
    spread = f"their spread is {_ratio(ratio)} times the noise"
    return f"{verb} SAEs trained on 5 to 100 % of the tokens apart: {spread}"


def _resolution(row: Row) -> str:
    if not row["resolves"] or float(row["resolves"]) == 0:
        return ""
    return (
        f"With {row['trainings']} seeds, it cannot resolve differences of two variants below "
        f"{float(row['resolves']):.2g}"
    )


def _order(row: Row) -> str:
    if not row["validity"]:
        return ""
    rho, p = float(row["validity"]), float(row["validity_p"])
    measured = f"rank correlation with {row['truth']} {_validity(row)}"
    if p > SIGNIFICANT:
        return f"There is no evidence that it orders these SAEs as the truth does: {measured}"
    return f"Its order of these SAEs {'agrees with' if rho > 0 else 'opposes'} the truth: {measured}"


def _ratio(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _validity(row: Row) -> str:
    if not row["validity"]:
        return "—"
    p = float(row["validity_p"])
    said = "< 0.001" if p < 0.001 else f"= {p:.2g}"
    low, high = row.get("validity_low"), row.get("validity_high")
    interval = f" [{float(low):+.2f}, {float(high):+.2f}]" if low and high else ""
    rho = f"{float(row['validity']):+.2f}{interval}".replace("-", "−")
    return f"{rho} (p {said}, n = {row['validity_n']})"


def _rows(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _number(text: str) -> str:
    return f"{float(text):.3g}" if text else "—"
