"""The paper's Table 2 from cells that keep `poles` details: what judges say of latents, in percent."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

from abench.report.cells import place_of, planned_seeds, share_cell
from abench.report.frame import Record
from abench.report.style import Styles, variant_order, variant_style
from abench.report.tables import Cell, Column, Row, Section, Table

TASK = "bidirectionality"
HEADING = "Bidirectional latents"
_COLUMNS = (
    ("bidirectional", "bidirectional, %", "latents with something on both sides"),
    ("opposites", "of which opposites, %", "latents whose sides are opposites, of all latents judged"),
    ("unidirectional", "unidirectional, %", "latents with something on one side"),
    ("none", "none, %", "latents with nothing on either side"),
    ("latents", "latents", "latents judged, over all seeds"),
)
_KINDS = tuple(name for name, *_ in _COLUMNS[:4])
_NAMES = {"opposites": "opposites", "bidirectional": "two-sided without being opposites"}

Poles = Mapping[str, Any]
"""What a cell keeps: a share is [value, low, high, n]."""


def poles_of(record: Record) -> Poles | None:
    """What the cell keeps for the table; None if it has nothing."""
    found: Poles | None = (record.get("details") or {}).get("poles")
    return found if record["status"] == "done" else None


def bidirectionality_table(records: Sequence[Record], styles: Styles) -> Table | None:
    """The table; None if no cell keeps what it needs."""
    cells = sorted((r for r in records if poles_of(r)), key=_place)
    if not cells:
        return None
    planned = planned_seeds(records, TASK)
    sections = tuple(
        Section(*place, tuple(_rows(*place, list(group), planned, styles)))
        for place, group in groupby(cells, _place)
    )
    columns = tuple(Column(TASK, "", name, "", title, text, None) for name, title, text in _COLUMNS)
    printed = any(row.k is None for section in sections for row in section.rows)
    single = any(planned[place_of(cell)] == 1 for cell in cells)
    notes = _notes([_poles(cell) for cell in cells], printed=printed, single=single)
    return Table(HEADING, columns, sections, tuple(notes))


def grouped(cells: Sequence[Record]) -> dict[tuple[int, str, int], list[Record]]:
    """The cells of one model and site by row, (k, variant, width), in the order of rows."""
    order = variant_order(cell["labels"]["variant"] for cell in cells)
    found: dict[tuple[int, str, int], list[Record]] = {}
    for cell in cells:
        labels = cell["labels"]
        found.setdefault((labels["k"], labels["variant"], labels["width"]), []).append(cell)
    return {row: found[row] for row in sorted(found, key=lambda row: (row[0], order.index(row[1]), row[2]))}


def _place(record: Record) -> tuple[str, str]:
    return record["labels"]["model"], record["labels"]["site"]


def _poles(record: Record) -> Poles:
    poles: Poles = record["details"]["poles"]
    return poles


def _rows(
    model: str, site: str, cells: Sequence[Record], planned: Mapping[tuple[Any, ...], int], styles: Styles
) -> Iterator[Row]:
    for (k, variant, width), same in grouped(cells).items():
        shares, of = [_poles(cell)["shares"] for cell in same], planned[place_of(same[0])]
        judged = sum(each["none"][3] for each in shares)
        counted = Cell(judged, None, len(same), len(same), f"{judged:,}")
        values = (*(share_cell([each[kind] for each in shares], of) for kind in _KINDS), counted)
        yield Row(k, variant, variant_style(variant, styles).title, width, "native", len(same), values)
    yield from _printed(model, site, styles)


def _printed(model: str, site: str, styles: Styles) -> Iterator[Row]:
    """What the paper prints for the model and site."""
    layer = site.removeprefix("blocks.").removesuffix(".hook_resid_post")
    found = {key[2:]: value for key, value in _values().items() if key[:2] == (model, layer)}
    for variant in variant_order(variant for variant, _ in found):
        texts = (found.get((variant, name), "") for name, *_ in _COLUMNS)
        title = f"{variant_style(variant, styles).title} (paper)"
        yield Row(None, variant, title, None, "native", None, tuple(Cell(text=text) for text in texts))


@cache
def _values() -> Mapping[tuple[str, str, str, str], str]:
    """The paper's numbers by model, layer, variant and metric."""
    text = files("abench.report").joinpath("paper_numbers.csv").read_text(encoding="utf-8")
    rows = (row for row in csv.DictReader(text.splitlines()) if row["table"] == "table2")
    return {(row["model"], row["layer"], row["variant"], row["metric"]): row["value"] for row in rows}


def _notes(cells: Sequence[Poles], *, printed: bool, single: bool) -> Iterator[str]:
    for judge in sorted({poles["judge"] for poles in cells}):
        mine = [poles for poles in cells if poles["judge"] == judge]
        yield (
            f"Judged by {judge} from the {mine[0]['contexts']} strongest contexts of each side, of latents "
            "drawn from those that fire."
            + (" In brackets: 95 % intervals (Wilson) of a single run." if single else "")
        )
        yield from dict.fromkeys(_tested(judge, each["validation"]) for each in mine if each["validation"])
        yield from _agreements(judge, mine)
    if not all(poles["signed"] for poles in cells):
        yield (
            "SAEs without negative codes: the negative side is that of the lowest pre-activations, as in the"
            " paper."
        )
    invalid = sum(poles["invalid"] for poles in cells)
    if invalid:
        yield f"{invalid} answers of judges could not be read; these latents are left out."
    if printed:
        yield (
            "(paper): arXiv 2510.00404, Table 2, with its own training and data, judged by Gemini 2.5 Flash;"
            " only where model and layer are the same as here."
        )


def _tested(judge: str, validation: Mapping[str, Any]) -> str:
    value, low, high, n = validation["accuracy"]
    parts = [
        f"{_NAMES.get(kind, kind)} {100 * share[0]:.0f} % of {share[3]}"
        for kind, share in validation["by_kind"].items()
    ]
    return (
        f"On {n} made-up latents (two-sided, one-sided, without structure) the judge {judge} is right in "
        f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]: {', '.join(parts)}."
    )


def _agreements(judge: str, cells: Sequence[Poles]) -> Iterator[str]:
    """Cohen's kappa with each other judge: over SAEs the lowest and the highest."""
    others = [each for poles in cells for each in poles["agreement"]]
    for name in sorted({each["judge"] for each in others}):
        mine = [each for each in others if each["judge"] == name]
        kappas = sorted(each["kappa"] for each in mine if "kappa" in each)
        if kappas:
            n = sum(each["n"] for each in mine)
            ends = "–".join(dict.fromkeys(f"{kappa:.2f}" for kappa in (kappas[0], kappas[-1])))
            yield f"Agreement of {judge} with {name}: Cohen's kappa {ends}, {n} latents."
