"""The paper's own numbers for its tasks, and the notes needed to read them and the table."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from abench.report.paper_numbers import paper_numbers
from abench.report.style import Styles, variant_order, variant_style
from abench.report.tables import Column, Section, Table, TableCell, TableRow

PAPER = "arXiv 2510.00404"
TABLE = "tasks"
"""The rows of paper_numbers.csv that belong to the paper's table of tasks; their `metric` is the task. They
include tasks that abench does not have."""

SCR_TPP = (
    "SCR and TPP fail several reliability checks with their usual settings (Chanin, arXiv 2605.18229): do not"
    " rank SAEs by them alone."
)
UNLEARNING = (
    "The unlearning score is sae-bench's: the largest loss of the knowledge to forget at which 99 % of the"
    " other answers stay correct. For most SAEs it is near 0, so the paper's 1 − score (0.74 and 0.80 are"
    " quoted) must follow another definition, which is unknown."
)
FAILING = frozenset({"scr", "tpp"})
"""The tasks that `SCR_TPP` is about."""
_RAVEL = "RAVEL increases with the number of active latents: compare at equal L0."
_TURNED = (
    "If higher is better for a score, lower is better for 1 − score: the arrows follow this rule, unlike the"
    " paper, which treats higher as better everywhere."
)
_PRINTED = (
    f"(paper): quoted from summaries of {PAPER}, with its own k, training and definitions; shown only for the"
    " same model, site, variant and task."
)


def printed(model: str, site: str, variant: str, column: Column) -> str | None:
    """The paper's number for this cell; None if it is unknown or was measured in another setting."""
    layer = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", site)
    return paper_numbers(TABLE).get((model, layer[1], variant, column.task)) if layer else None


def with_printed(table: Table, styles: Styles) -> Table:
    """The table with rows of the paper's numbers at the end of each section, if it has any."""
    return replace(table, sections=tuple(_with_rows(s, table.columns, styles) for s in table.sections))


def paper_notes(table: Table) -> tuple[str, ...]:
    """The notes below the paper's table of tasks; each is included only if it applies to the table."""
    return tuple(_notes(table.columns, has_printed=any(row.k is None for row in table.rows())))


def failings(columns: Sequence[Column]) -> tuple[str, ...]:
    """The notes on metrics whose failings are known, for any table that has one of them."""
    return (SCR_TPP,) if {column.task for column in columns} & FAILING else ()


def _notes(columns: Sequence[Column], *, has_printed: bool) -> Iterator[str]:
    tasks = {column.task for column in columns}
    shown = (f"{c.task_label} = {'1 − ' if c.complement else ''}{c.metric}" for c in columns)
    yield f"{'; '.join(shown)}."
    if any(column.complement and column.higher_is_better is False for column in columns):
        yield _TURNED
    if "unlearning" in tasks:
        yield UNLEARNING
    if "ravel" in tasks:
        yield _RAVEL
    if has_printed:
        yield _PRINTED


def _with_rows(section: Section, columns: Sequence[Column], styles: Styles) -> Section:
    variants = variant_order(row.variant for row in section.rows)
    rows = (_row(section, variant, columns, styles) for variant in variants)
    return replace(section, rows=(*section.rows, *(row for row in rows if any(c.text for c in row.cells))))


def _row(section: Section, variant: str, columns: Sequence[Column], styles: Styles) -> TableRow:
    title = f"{variant_style(variant, styles).title} (paper)"
    values = (printed(section.model, section.site, variant, column) for column in columns)
    return TableRow(
        None, variant, title, None, "native", None, tuple(TableCell(text=value or "") for value in values)
    )
