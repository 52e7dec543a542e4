"""The paper's Table 2 from cells with `poles` details: judges' verdicts on latents, in percent."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abench.report.cells import share_cell
from abench.report.frame import Record
from abench.report.paper_numbers import paper_numbers
from abench.report.rows import Planned, by_place, other_row, planned_seeds, row_key, sae_rows, stored
from abench.report.style import Styles, variant_order, variant_style
from abench.report.tables import Column, Section, Table, TableCell, TableRow
from abench.report.validity import is_valid
from abench.tables import TaskTable

TASK = "bidirectionality"
POLES = "poles"
"""The name of the details."""
_COLUMNS = (
    ("bidirectional", "bidirectional, %", "latents with a feature on both sides"),
    ("opposites", "of which opposites, %", "latents whose two sides are opposites, of all judged latents"),
    ("unidirectional", "unidirectional, %", "latents with a feature on one side only"),
    (
        "none",
        "none, %",
        "latents without a feature on either side; compare with random directions and undertrained SAEs",
    ),
    ("latents", "latents", "judged latents, over all seeds"),
)
UNDERTRAINED = 90
"""Training tokens per latent below which a note names an SAE; the paper's code has at least 94."""
KINDS = tuple(name for name, *_ in _COLUMNS[:4])
"""The columns of shares, which are metrics of the task."""
RANDOM = "random"
"""Stands in place of the variant for the baseline of random directions."""
RANDOM_TITLE = "Random directions"
_PRINTED = " (paper)"
_NAMES = {"opposites": "opposites", "bidirectional": "two-sided without being opposites"}

Poles = Mapping[str, Any]
"""The `poles` details of a cell; a share is [value, low, high, n]."""


def bidirectionality_table(records: Sequence[Record], styles: Styles) -> Table | None:
    """The table of bidirectional latents; None if no cell has the details for it."""
    cells = stored(records, POLES)
    if not cells:
        return None
    planned = planned_seeds(records)
    sections = tuple(
        Section(*place, tuple(_rows(*place, mine, planned, styles))) for place, mine in by_place(cells)
    )
    columns = tuple(Column.own(name, title, text) for name, title, text in _COLUMNS)
    printed = any(row.title.endswith(_PRINTED) for section in sections for row in section.rows)
    single = any(planned[row_key(cell)] == 1 for cell in cells)
    notes = _notes([_poles(cell) for cell in cells], printed=printed, single=single)
    return Table("", columns, sections, (*notes, *_untrained(cells, styles)))


def baseline(cells: Sequence[Record]) -> Record | None:
    """A cell with the baseline of random directions, which is the same in all that have it; None for none."""
    return next((cell for cell in cells if _poles(cell).get("random")), None)


def _poles(record: Record) -> Poles:
    poles: Poles = record["details"][POLES]
    return poles


def _rows(
    model: str, site: str, cells: Sequence[Record], planned: Planned, styles: Styles
) -> Iterator[TableRow]:
    yield from sae_rows(cells, planned, styles, _values)
    yield from _random(cells)
    yield from _printed(model, site, styles)


def _values(same: Sequence[Record], of: int) -> Iterator[TableCell]:
    """The cells of an SAE's row; judged latents are counted over all its seeds."""
    for kind in KINDS:
        yield share_cell([_poles(cell)["shares"][kind] for cell in same if is_valid(cell, (kind,))], of)
    yield _counted(sum(_poles(cell)["shares"]["none"][3] for cell in same), len(same))


def _counted(judged: int, seeds: int) -> TableCell:
    return TableCell(judged, None, seeds, seeds, f"{judged:,}")


def _random(cells: Sequence[Record]) -> Iterator[TableRow]:
    measured = baseline(cells)
    if measured is not None:
        shares = _poles(measured)["random"]
        values = [
            share_cell([shares[kind]], 1) if is_valid(measured, (kind,)) else TableCell(text="—")
            for kind in KINDS
        ]
        yield other_row(RANDOM, RANDOM_TITLE, (*values, _counted(shares["none"][3], 1)))


def _printed(model: str, site: str, styles: Styles) -> Iterator[TableRow]:
    """The rows of the paper's numbers for the model and site."""
    layer = site.removeprefix("blocks.").removesuffix(".hook_resid_post")
    found = {key[2:]: value for key, value in paper_numbers("table2").items() if key[:2] == (model, layer)}
    for variant in variant_order(variant for variant, _ in found):
        texts = (found.get((variant, name), "") for name, *_ in _COLUMNS)
        title = f"{variant_style(variant, styles).title}{_PRINTED}"
        yield other_row(variant, title, (TableCell(text=text) for text in texts))


def _untrained(cells: Sequence[Record], styles: Styles) -> Iterator[str]:
    """What a large share of `none` can mean, and which SAEs of the table were trained too little."""
    if baseline(cells):
        yield (
            f"{RANDOM_TITLE}: the baseline of all columns. The same judge saw the strongest contexts of"
            " vectors drawn at random; shares near theirs say nothing about an SAE."
        )
    else:
        yield (
            "none: compare with the baseline of random directions, in which a judge finds many features as"
            " well; these cells were computed without it (option `random_directions`)."
        )
    seen = {
        (str(cell["labels"]["variant"]), tokens, tokens / cell["labels"]["width"])
        for cell in cells
        if (tokens := (cell.get("about") or {}).get("tokens")) is not None
    }
    for tokens, each in sorted({(tokens, each) for _, tokens, each in seen if each < UNDERTRAINED}):
        order = variant_order(name for name, *rest in seen if rest == [tokens, each])
        names = ", ".join(variant_style(name, styles).title for name in order)
        yield (
            f"Undertrained: {names} saw {tokens:,} tokens, {each:.0f} per latent (fewer than"
            f" {UNDERTRAINED}), so their `none` says little about the variant."
        )


def _notes(cells: Sequence[Poles], *, printed: bool, single: bool) -> Iterator[str]:
    for judge in sorted({poles["judge"] for poles in cells}):
        mine = [poles for poles in cells if poles["judge"] == judge]
        given = [len(poles["concepts"]) for poles in mine if poles.get("concepts")]
        which = (
            f"the latents that differ most between the poles of {max(given)} given concepts"
            if given
            else "a sample of the alive latents"
        )
        yield (
            f"Judged by {judge} from the {mine[0]['contexts']} strongest contexts of each side, for {which}."
            + (" In brackets: 95 % intervals (Wilson) of a single run." if single else "")
        )
        yield from dict.fromkeys(_tested(judge, each["validation"]) for each in mine if each["validation"])
        yield from _agreements(judge, mine)
    if not all(poles["signed"] for poles in cells):
        yield (
            "For SAEs without negative codes, the negative side consists of the lowest pre-activations, as in"
            " the paper."
        )
    invalid = sum(poles["invalid"] for poles in cells)
    if invalid:
        yield f"{invalid} answers of judges could not be parsed; these latents are excluded."
    if printed:
        yield (
            "(paper): arXiv 2510.00404, Table 2, with its own training and data, judged by Gemini 2.5 Flash;"
            " shown only for the same model and layer."
        )


def _tested(judge: str, validation: Mapping[str, Any]) -> str:
    value, low, high, n = validation["accuracy"]
    parts = [
        f"{_NAMES.get(kind, kind)} {100 * share[0]:.0f} % of {share[3]}"
        for kind, share in validation["by_kind"].items()
    ]
    return (
        f"Validation: on {n} constructed latents (two-sided, one-sided, without structure) the judge {judge} "
        f"is right in {100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]: {', '.join(parts)}."
    )


def _agreements(judge: str, cells: Sequence[Poles]) -> Iterator[str]:
    """Cohen's kappa with each other judge: the lowest and the highest over SAEs."""
    others = [each for poles in cells for each in poles["agreement"]]
    for name in sorted({each["judge"] for each in others}):
        mine = [each for each in others if each["judge"] == name]
        kappas = sorted(each["kappa"] for each in mine if "kappa" in each)
        if kappas:
            n = sum(each["n"] for each in mine)
            ends = "–".join(dict.fromkeys(f"{kappa:.2f}" for kappa in (kappas[0], kappas[-1])))
            yield f"Agreement of {judge} with {name}: Cohen's kappa {ends}, {n} latents."


POLES_TABLE = TaskTable("Bidirectional latents", bidirectionality_table, replaces_headline=True, paper=2)
"""The table of `bidirectionality`."""
