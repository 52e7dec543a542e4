"""What the paper itself prints for its tasks, and what has to be known to read it and its table."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

from abench.report.style import Styles, variant_order, variant_style
from abench.report.tables import Cell, Column, Row, Section, Table

PAPER = "arXiv 2510.00404"
TABLE = "tasks"
"""The rows of paper_numbers.csv that belong to the paper's table of tasks; there `metric` is the task. What
abench has no task for stands there as well."""

_SCR_TPP = (
    "SCR and TPP fail several reliability checks at their usual settings (Chanin, arXiv 2605.18229): do not"
    " rank SAEs by them alone."
)
_UNLEARNING = (
    "The unlearning score is sae-bench's: the largest loss of the knowledge to be forgotten at which 99 % of"
    " the other answers stay right. For most SAEs it is near 0, so what the paper shows as 1 − score (0.74"
    " and 0.80 are quoted) follows another definition, which is not known."
)
_RAVEL = "RAVEL rises with the number of active latents: compare at equal L0."
_TURNED = (
    "Where high is better for a score, low is better for 1 − score: the arrows follow this, not the paper,"
    " which takes high for better everywhere."
)
_PRINTED = (
    f"(paper): as summaries of {PAPER} quote it, with its own k, training and definitions; only where model,"
    " site, variant and task are the same as here."
)


def printed(model: str, site: str, variant: str, column: Column) -> str | None:
    """What the paper prints there; None where that is not known, or its setting was another one."""
    layer = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", site)
    return _values().get((model, layer[1], variant, column.task)) if layer else None


def with_printed(table: Table, styles: Styles) -> Table:
    """The table with the paper's own rows below each section in which it has any."""
    return replace(table, sections=tuple(_with_rows(s, table.columns, styles) for s in table.sections))


def paper_notes(table: Table) -> tuple[str, ...]:
    """The notes below the paper's table of tasks; each is there only if the table has what it explains."""
    return tuple(_notes(table.columns, has_printed=any(row.k is None for row in table.rows())))


def _notes(columns: Sequence[Column], *, has_printed: bool) -> Iterator[str]:
    tasks = {column.task for column in columns}
    shown = (f"{c.task_label} = {'1 − ' if c.complement else ''}{c.metric}" for c in columns)
    yield f"{'; '.join(shown)}."
    if any(column.complement and column.higher_is_better is False for column in columns):
        yield _TURNED
    if tasks & {"scr", "tpp"}:
        yield _SCR_TPP
    if "unlearning" in tasks:
        yield _UNLEARNING
    if "ravel" in tasks:
        yield _RAVEL
    if has_printed:
        yield _PRINTED


def _with_rows(section: Section, columns: Sequence[Column], styles: Styles) -> Section:
    variants = variant_order(row.variant for row in section.rows)
    rows = (_row(section, variant, columns, styles) for variant in variants)
    return replace(section, rows=(*section.rows, *(row for row in rows if any(c.text for c in row.cells))))


def _row(section: Section, variant: str, columns: Sequence[Column], styles: Styles) -> Row:
    title = f"{variant_style(variant, styles).title} (paper)"
    values = (printed(section.model, section.site, variant, column) for column in columns)
    return Row(None, variant, title, None, "native", None, tuple(Cell(text=value or "") for value in values))


@cache
def _values() -> Mapping[tuple[str, str, str, str], str]:
    """The paper's numbers, as printed, by model, layer, variant and task."""
    text = files("abench.report").joinpath("paper_numbers.csv").read_text(encoding="utf-8")
    rows = (row for row in csv.DictReader(text.splitlines()) if row["table"] == TABLE)
    return {(row["model"], row["layer"], row["variant"], row["metric"]): row["value"] for row in rows}
