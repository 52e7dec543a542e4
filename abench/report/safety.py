"""The paper's Table 1 from cells with `steering` details: safety and utility, relative to the original model.

Cells of SAEs contain the results of the unsteered model and of DiM, so that all rows of a model and site are
based on the same requests and questions. The settings that two rules choose stand side by side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from abench.report.cells import lacking_cell, share_cell
from abench.report.frame import Record
from abench.report.paper_numbers import paper_numbers
from abench.report.rows import (
    Planned,
    by_place,
    by_row,
    other_row,
    planned_seeds,
    row_titles,
    sae_row,
    stored,
)
from abench.report.saes import sae_name
from abench.report.steering_details import (
    PREFIX,
    RULE_TITLES,
    RULES,
    Values,
    broken_strengths,
    choice_text,
    rules_of,
    signed,
)
from abench.report.style import Styles, variant_style
from abench.report.tables import Column, Section, Table, TableCell, TableRow
from abench.report.validity import unmet
from abench.tables import TaskTable

TASK = "safety_utility"
_COLUMNS: tuple[tuple[str, str, bool | None, str], ...] = (
    ("utility", "utility, %", True, "questions answered correctly (MMLU, the tiny world's, or as chosen)"),
    ("utility_change", "Δ", None, "change relative to the unsteered model"),
    ("safety", "safety, %", True, "100 − attack success rate on harmful requests"),
    ("safety_change", "Δ", None, "change relative to the unsteered model"),
    ("refusal", "refusals, %", None, "harmful requests that are refused, by the words of the reply"),
    ("degenerate", "degenerate, %", False, "replies to harmful requests that are empty, loops or nonsense"),
    ("over_refusal", "over-refusal, %", False, "harmless requests that are refused"),
)
_SECOND = ("utility", "safety", "refusal", "degenerate")
"""The columns of the rule that comes second, next to all columns of the first."""
_CHANGE = "_change"
DEGENERATE = 0.5
"""Share of degenerate replies above which safety is marked and a note explains what it means there."""
STAMMERS = "†"
"""The mark of such a value."""
_PAPER = {"utility": "mmlu", "safety": "harmbench"}

Told = tuple[Record | None, Mapping[str, Mapping[str, Any]]]
"""The choices of a method by rule, and the cell that they come from; None for the unsteered model."""


@dataclass(frozen=True)
class _Columns:
    """The columns of the rules that some cell has choices of."""

    shown: tuple[tuple[str, str], ...]
    """(rule, name) pairs."""

    @classmethod
    def of(cls, cells: Sequence[Record]) -> "_Columns":
        found = [rules_of(cell["details"]["steering"]["dim"]) for cell in cells]
        first, *others = [rule for rule in RULES if any(rule in each for each in found)]
        names = [(first, name) for name, *_ in _COLUMNS]
        return cls((*names, *((rule, name) for rule in others for name in _SECOND)))

    def titled(self) -> tuple[Column, ...]:
        about = {name: (title, text, higher) for name, title, higher, text in _COLUMNS}
        several = len({rule for rule, _ in self.shown}) > 1
        return tuple(
            Column.own(f"{PREFIX[rule]}{name}", *about[name], group=RULE_TITLES[rule] if several else "")
            for rule, name in self.shown
        )


def safety_table(records: Sequence[Record], styles: Styles) -> Table | None:
    """The table, with the chosen settings in its notes; None if no cell has the details for it."""
    steered, planned = stored(records, "steering"), planned_seeds(records)
    if not steered:
        return None
    columns = _Columns.of(steered)
    sections = tuple(
        Section(*place, tuple(_rows(*place, cells, planned, styles, columns)))
        for place, cells in by_place(steered)
    )
    notes = [text for _, cells in by_place(steered) for text in _choices(cells, steered, styles)]
    stammers = any(STAMMERS in cell.text for each in sections for row in each.rows for cell in row.cells)
    reading = _reading(steered, stammers=stammers)
    return Table("", columns.titled(), sections, (*reading, *dict.fromkeys(notes)))


def _rows(
    model: str,
    site: str,
    cells: Sequence[Record],
    planned: Planned,
    styles: Styles,
    columns: _Columns,
) -> Iterator[TableRow]:
    kept = cells[0]["details"]["steering"]
    original = kept["original"]
    same = {rule: {"chosen": original} for rule in RULES}

    def values(told: Sequence[Told], of: int = 1) -> list[TableCell]:
        return [_cell(*column, told, original, of) for column in columns.shown]

    def baseline(title: str, told: Told) -> TableRow:
        return other_row(title.lower(), title, values([told]))

    yield baseline("Original", (None, same))
    yield baseline("DiM", (cells[0], rules_of(kept["dim"])))
    if "random_direction" in kept:
        yield baseline("Random direction", (cells[0], kept["random_direction"]))
    saes = by_row(cells)
    for key, title in row_titles(saes, styles).items():
        details = [(cell, cell["details"]["steering"]) for cell in saes[key]]
        told: list[Told] = [(cell, rules_of(each["sae"])) for cell, each in details]
        yield sae_row(key, title, len(told), values(told, planned[key]))
        if all("random_latent" in each for _, each in details):
            told = [(cell, each["random_latent"]) for cell, each in details]
            yield sae_row(key, f"{title}: random latent", len(told), values(told, planned[key]))
    yield from _printed(model, site, styles, columns)


def _cell(rule: str, name: str, told: Sequence[Told], original: Values, of: int) -> TableCell:
    """One rule's value of a row; numbers that do not mean anything are shown, and marked elsewhere."""
    chosen = [choices.get(rule, {}).get("chosen") for _, choices in told]
    outcomes = [values for values in chosen if values is not None]
    if len(outcomes) < of:
        return lacking_cell(len(outcomes), of)
    if name.endswith(_CHANGE):
        share = name.removesuffix(_CHANGE)
        if told[0][0] is None:
            return TableCell()
        return _change_cell([values[share][0] - original[share][0] for values in outcomes])
    cell = share_cell([values[name] for values in outcomes], of)
    if name == "safety" and fmean(values["degenerate"][0] for values in outcomes) > DEGENERATE:
        return replace(cell, text=f"{cell.text} {STAMMERS}")
    return cell


def _change_cell(changes: Sequence[float]) -> TableCell:
    mean = 100 * fmean(changes)
    return TableCell(mean, None, len(changes), len(changes), f"{mean:+.1f}")


def _printed(model: str, site: str, styles: Styles, columns: _Columns) -> Iterator[TableRow]:
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
        # The paper has one rule, whose columns are the last ones.
        texts = (
            found.get((variant, _PAPER.get(name, "")), "") if rule == "paper" else ""
            for rule, name in columns.shown
        )
        yield other_row(variant, f"{title} (paper)", (TableCell(text=text) for text in texts))


def _reading(cells: Sequence[Record], *, stammers: bool) -> Iterator[str]:
    kept = cells[0]["details"]["steering"]
    original = kept["original"]
    counts = f"{original['utility'][3]:,} questions, {original['safety'][3]:,} harmful requests"
    yield (
        f"Safety is 100 − attack success rate, judged by {kept['judge']}; {counts} and "
        f"{original['over_refusal'][3]:,} harmless ones. In brackets: 95 % intervals (Wilson) of one run."
    )
    yield from _of_choice(kept)
    if stammers:
        yield (
            f"{STAMMERS} Most replies are degenerate: the model is safe because it produces nonsense, not "
            "because it refuses."
        )
    yield from _meaningless(cells)
    invalid = max(
        choice.get("chosen", {}).get("invalid", 0)
        for cell in cells
        for choice in rules_of(cell["details"]["steering"]["sae"]).values()
    )
    if invalid:
        yield f"Up to {invalid} verdicts per row could not be parsed and are not counted."


def _of_choice(kept: Mapping[str, Any]) -> Iterator[str]:
    """How settings were chosen."""
    loss = f"at a utility loss of at most {100 * kept['max_loss']:g} points"
    unit = "Strengths are in units of the residual stream's mean norm."
    tried = len(kept["sae"].get("tried", ()))
    if not tried:
        yield (
            "On separate validation data, each method tried two candidates at the same strengths in both "
            f"directions; shown is the setting with the highest safety {loss}. {unit}"
        )
        return
    yield (
        f"On separate validation data, each method tried the same number of candidates (up to {tried}) and "
        f"strengths. The paper's rule chooses the highest safety {loss}. Coherent replies: the same among "
        f"settings with at most {100 * kept['max_degenerate']:g} points more degenerate replies than the "
        f"unsteered model. {unit}"
    )
    if "chosen" in kept["random_direction"].get("paper", {}):
        yield (
            "Random directions and random latents were not searched: they are pushed as far as the method "
            "above them, and show what any push of this length does."
        )


def _meaningless(cells: Sequence[Record]) -> Iterator[str]:
    """What keeps a model's numbers from meaning anything, in plain words; the numbered notes have values."""
    for model in sorted({cell["labels"]["model"] for cell in cells}):
        failing = {e["name"] for c in cells if c["labels"]["model"] == model for e in unmet(c)}
        if "refusals" in failing:
            yield f"Safety of {model} is not meaningful: this model does not refuse even under DiM."
        if "utility_above_chance" in failing:
            yield f"Utility of {model} is not meaningful: its accuracy is at chance even without steering."


def _choices(cells: Sequence[Record], all_cells: Sequence[Record], styles: Styles) -> Iterator[str]:
    """The chosen setting of each method for a model and site; labels that all cells share are omitted."""
    several = {name for name in ("model", "site", "width") if len({c["labels"][name] for c in all_cells}) > 1}
    where = ", ".join(cells[0]["labels"][name] for name in ("model", "site") if name in several)
    start = f"{where}: " if where else ""
    dim = cells[0]["details"]["steering"]["dim"]
    yield f"{start}DiM: {choices(dim)}.{_broken(dim)}"
    for cell in cells:
        labels = cell["labels"]
        sae = cell["details"]["steering"]["sae"]
        name = sae_name(labels, styles, width="width" in several)
        yield f"{start}{name}: {choices(sae)}.{_broken(sae)}"


def _broken(method: Mapping[str, Any]) -> str:
    """The strengths that broke the model, as an additional sentence."""
    broken = [signed(strength) for strength in broken_strengths(method)]
    return f" Excluded because logits were not finite: strength {', '.join(broken)}." if broken else ""


def choices(method: Mapping[str, Any]) -> str:
    """The chosen settings of a method as clauses, one for each rule unless they agree."""
    texts = {rule: choice_text(method, choice) for rule, choice in rules_of(method).items()}
    if len(texts) == 1 or len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{RULE_TITLES[rule]}: {text}" for rule, text in texts.items())


SAFETY_TABLE = TaskTable(
    "Steering: safety and utility", safety_table, replaces_headline=True, shows_invalid=True, paper=1
)
"""The table of `safety_utility`."""
