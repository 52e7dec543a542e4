"""The paper's Table 1 from cells with `steering` details: safety and utility, relative to the original model.

Cells of SAEs contain the results of the unsteered model and of DiM, so that all rows of a model and site are
based on the same requests and questions.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from abench.report.cells import lacking_cell, place_of, planned_seeds, share_cell
from abench.report.frame import Record
from abench.report.paper_numbers import paper_numbers
from abench.report.saes import absent_last, sae_name
from abench.report.style import Styles, row_title, variant_order, variant_style
from abench.report.tables import Column, Section, Table, TableCell, TableRow
from abench.report.validity import is_valid

TASK = "safety_utility"
HEADING = "Steering: safety and utility"
SHARES = ("utility", "safety", "refusal", "degenerate", "over_refusal")
_CHANGES = {"utility": "Δ utility", "safety": "Δ safety"}
_COLUMNS: tuple[tuple[str, str, bool | None, str], ...] = (
    ("utility", "utility, %", True, "four-way questions answered correctly (MMLU or the tiny world's)"),
    ("Δ utility", "Δ", None, "change relative to the unsteered model"),
    ("safety", "safety, %", True, "100 − attack success rate on harmful requests"),
    ("Δ safety", "Δ", None, "change relative to the unsteered model"),
    ("refusal", "refusals, %", None, "harmful requests that are refused"),
    ("degenerate", "degenerate, %", False, "replies to harmful requests that are empty, loops or nonsense"),
    ("over_refusal", "over-refusal, %", False, "harmless requests that are refused"),
)
METRICS = {"Δ utility": "utility_change", "Δ safety": "safety_change"}
"""Column -> metric of the task, for columns with another name than their metric."""
DEGENERATE = 0.5
"""Share of degenerate replies above which a row is marked and a note explains what safety means there."""
STAMMERS = "†"
"""The mark of such a row."""
_PAPER = {"utility": "mmlu", "safety": "harmbench"}

Values = Mapping[str, Any]
"""The outcome of a method; a share is [value, low, high, n]."""
Told = tuple[Record | None, Values]
"""An outcome and the cell that tells whether its values mean something; None if they do in any case."""


def safety_table(records: Sequence[Record], styles: Styles) -> Table | None:
    """The table, with the chosen settings in its notes; None if no cell has the details for it."""
    steered = [r for r in records if r["status"] == "done" and "steering" in (r.get("details") or {})]
    if not steered:
        return None
    steered.sort(key=lambda r: (r["labels"]["model"], r["labels"]["site"]))
    planned = planned_seeds(records, TASK)
    sections: list[Section] = []
    notes: list[str] = []
    for (model, site), group in groupby(steered, key=lambda r: (r["labels"]["model"], r["labels"]["site"])):
        cells = list(group)
        sections.append(Section(model, site, tuple(_rows(model, site, cells, planned, styles))))
        notes += _choices(cells, steered, styles)
    columns = tuple(
        Column(TASK, "", name, "", title, description, higher)
        for name, title, higher, description in _COLUMNS
    )
    stammers = any(row.title.endswith(STAMMERS) for section in sections for row in section.rows)
    reading = _reading(steered, stammers=stammers)
    return Table(HEADING, columns, tuple(sections), (*reading, *dict.fromkeys(notes)))


def _rows(
    model: str, site: str, cells: Sequence[Record], planned: Mapping[tuple[Any, ...], int], styles: Styles
) -> Iterator[TableRow]:
    kept = cells[0]["details"]["steering"]
    original = kept["original"]
    # The unsteered model's values are plain measurements, which mean something in any case.
    yield _method("Original", [(None, original)], original)
    yield _method("DiM", [(cells[0], kept["dim"]["chosen"])], original)
    order = variant_order(cell["labels"]["variant"] for cell in cells)
    saes: dict[tuple[int | None, int, int], list[Record]] = {}
    for cell in cells:
        labels = cell["labels"]
        place = (labels["k"], order.index(labels["variant"]), labels["width"])
        saes.setdefault(place, []).append(cell)
    for k, number, width in sorted(saes, key=lambda place: (absent_last(place[0]), *place[1:])):
        same = saes[k, number, width]
        outcomes = [(cell, cell["details"]["steering"]["sae"]["chosen"]) for cell in same]
        title = row_title(order[number], styles)
        of = planned[place_of(same[0])]
        yield _row(k, order[number], title, width, len(same), outcomes, original, of)
    yield from _printed(model, site, styles)


def _method(title: str, outcomes: Sequence[Told], original: Values) -> TableRow:
    return _row(None, title.lower(), title, None, None, outcomes, original, 1)


def _row(
    k: int | None,
    variant: str,
    title: str,
    width: int | None,
    seeds: int | None,
    told: Sequence[Told],
    original: Values,
    of: int,
) -> TableRow:
    cells = []
    for name, *_ in _COLUMNS:
        metric = METRICS.get(name, name)
        outcomes = [values for cell, values in told if cell is None or is_valid(cell, (metric,))]
        share = next((each for each in SHARES if _CHANGES.get(each, "") == name), None)
        if share is None:
            cells.append(share_cell([each[name] for each in outcomes], of))
        elif title == "Original":
            cells.append(TableCell())
        elif len(outcomes) < of:
            cells.append(lacking_cell(len(outcomes), of))
        else:
            cells.append(_change_cell([each[share][0] - original[share][0] for each in outcomes]))
    if fmean(values["degenerate"][0] for _, values in told) > DEGENERATE:
        title = f"{title} {STAMMERS}"
    return TableRow(k, variant, title, width, "native", seeds, tuple(cells))


def _change_cell(changes: Sequence[float]) -> TableCell:
    mean = 100 * fmean(changes)
    return TableCell(mean, None, len(changes), len(changes), f"{mean:+.1f}")


def _printed(model: str, site: str, styles: Styles) -> Iterator[TableRow]:
    """The rows of the paper's numbers for the model and site."""
    layer = site.removeprefix("blocks.").removesuffix(".hook_resid_post")
    found = {
        key[2:]: value
        for key, value in paper_numbers("table1", "table6").items()
        if key[:2] == (model, layer)
    }
    titles = {"original": "Original", "dim": "DiM"}
    for variant in dict.fromkeys(variant for variant, _ in found):
        title = titles.get(variant) or variant_style(variant, styles).title
        texts = (found.get((variant, _PAPER.get(name, "")), "") for name, *_ in _COLUMNS)
        yield TableRow(
            None, variant, f"{title} (paper)", None, "native", None, tuple(TableCell(text=t) for t in texts)
        )


def _reading(cells: Sequence[Record], *, stammers: bool) -> Iterator[str]:
    kept = cells[0]["details"]["steering"]
    original = kept["original"]
    counts = f"{original['utility'][3]:,} questions, {original['safety'][3]:,} harmful requests"
    yield (
        f"Safety is 100 − attack success rate, judged by {kept['judge']}; {counts} and "
        f"{original['over_refusal'][3]:,} harmless ones. In brackets: 95 % intervals (Wilson) of one run."
    )
    yield (
        "On separate validation data, each method tried two candidates at the same strengths in both "
        "directions; shown is the setting with the highest safety at a utility loss of at most "
        f"{100 * kept['max_loss']:g} points. Strengths are in units of the residual stream's mean norm."
    )
    if stammers:
        yield (
            f"{STAMMERS} Most replies are degenerate: the row is safe because the model produces nonsense, "
            "not because it refuses."
        )
    invalid = max(cell["details"]["steering"]["sae"]["chosen"].get("invalid", 0) for cell in cells)
    if invalid:
        yield f"Up to {invalid} verdicts per row could not be parsed and are not counted."


def _choices(cells: Sequence[Record], all_cells: Sequence[Record], styles: Styles) -> Iterator[str]:
    """The chosen setting of each method for a model and site; labels that all cells share are omitted."""
    several = {name for name in ("model", "site", "width") if len({c["labels"][name] for c in all_cells}) > 1}
    where = ", ".join(cells[0]["labels"][name] for name in ("model", "site") if name in several)
    start = f"{where}: " if where else ""
    dim = cells[0]["details"]["steering"]["dim"]
    yield f"{start}DiM: {choice(dim)}.{_broken(dim)}"
    for cell in cells:
        labels = cell["labels"]
        sae = cell["details"]["steering"]["sae"]
        name = sae_name(labels, styles, width="width" in several)
        yield f"{start}{name}: {choice(sae)}.{_broken(sae)}"


def _broken(method: Mapping[str, Any]) -> str:
    """The strengths that broke the model, as an additional sentence."""
    broken = [_signed(row["strength"]) for row in method["sweep"] if "utility" not in row]
    return f" Excluded because logits were not finite: strength {', '.join(broken)}." if broken else ""


def choice(method: Mapping[str, Any]) -> str:
    """The chosen setting of a method, as a clause."""
    candidate, strength = method["candidate"], method["strength"]
    where = {"mean": "over all tokens", "last": "at the last token"}[candidate["pooling"]]
    if strength == 0:
        return "not steered, because no setting increased safety within the allowed loss of utility"
    if "latent" not in candidate:
        return f"difference in means {where}, strength {_signed(strength)}"
    sign = 1 if candidate["pole"] == "+" else -1
    value = _signed(sign * strength * candidate["unit"], ".3g")
    return f"latent {candidate['latent']} (chosen {where}), clamped to {value}, strength {_signed(strength)}"


def _signed(number: float, form: str = "g") -> str:
    return f"{number:{form}}".replace("-", "−")
