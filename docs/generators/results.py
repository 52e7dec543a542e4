"""The page of results on a real model: every number on it comes from the reports of its cells.

`docs/build_results.py` writes the page; a test compares it with what the cells give.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from abench.report.frame import read_tidy
from abench.report.reread import records_of_report
from abench.report.style import variant_order, variant_style
from abench.settings import settings_text
from generators.borrowed import ROOT
from generators.claims import CLAIMS, Claim, Reasons, claim_rows, in_words, verdicts
from generators.markdown import table

REPORTS = ROOT / "results" / "reference" / "smollm2"
"""The reports of the replication, a folder each."""
TEMPLATE = Path(__file__).with_name("results.md.in")
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
SHARES = ROOT / "results" / "reference" / "two-sided-share"
"""The report of synthetic activations."""
SWEEP = "rates"
_BLOCK = re.compile(
    r"(<!-- results: written by docs/build_results.py -->\n).*?(<!-- end of results -->)", re.DOTALL
)
_MARKS = re.compile(r"\[(\d+(?:,\d+)*)\]")
_AFTER_INTERVAL = re.compile(r"\] \[(\d+(?:,\d+)*)\]")
_NOTE = re.compile(r"- \[(\d+)\] ")
_MARK = re.compile(r"^\{\{ (\w+) ?([^}]*?) \}\}$", re.MULTILINE)

Record = Mapping[str, Any]
Column = tuple[str, str, int]
"""Metric, heading, decimals."""
COLUMNS: Mapping[str, Sequence[Column]] = {
    "core": (
        ("l0", "L0", 1),
        ("nmse", "nMSE ↓", 4),
        ("explained_variance", "explained variance ↑", 3),
        ("loss_recovered_zero", "loss recovered ↑", 4),
        ("kl", "KL ↓", 3),
        ("dead_fraction", "dead ↓", 3),
        ("two_sided_fraction", "two-sided", 3),
        ("antipodal_fraction", "antipodal", 4),
    ),
    "interference": (
        ("two_sided_by_strength", "two-sided by strength", 3),
        ("weaker_strength", "strength of weaker poles", 3),
        ("weaker_firings", "firings of weaker poles", 3),
        ("harmful", "harmful firings ↓", 3),
        ("harmful_weaker", "of which on weaker poles", 3),
    ),
    "autointerp": (
        ("detection", "detection ↑", 3),
        ("balanced", "balanced ↑", 3),
        ("main_pole", "main pole ↑", 3),
        ("other_pole", "other pole ↑", 3),
        ("explained", "explained ↑", 3),
    ),
    "scr": tuple((f"scr_metric_threshold_{n}", f"SCR@{n} ↑", 3) for n in (5, 10, 20, 50)),
    "tpp": tuple((f"tpp_threshold_{n}_total_metric", f"TPP@{n} ↑", 3) for n in (5, 10, 20, 50)),
    "sparse_probing": (
        ("sae_top_1_test_accuracy", "1 latent ↑", 3),
        ("sae_top_2_test_accuracy", "2 latents ↑", 3),
        ("sae_top_5_test_accuracy", "5 latents ↑", 3),
        ("llm_test_accuracy", "model ↑", 3),
    ),
}


def records(report: str) -> tuple[Record, ...]:
    """The cells of a report of the replication; none if it does not exist yet."""
    return _report(REPORTS / report)


@cache
def _report(folder: Path) -> tuple[Record, ...]:
    return tuple(records_of_report(folder)) if (folder / "data.csv").exists() else ()


@cache
def reasons(report: str) -> Reasons:
    """Why a report has no score of a metric that means anything, for each task and metric without one."""
    file = REPORTS / report / "data.csv"
    if not file.exists():
        return {}
    rows = read_tidy(file)
    rows = rows[(rows["view"] == "native") & (rows["status"] != "missing")]
    found: dict[tuple[str, str], str] = {}
    for (task, metric), cells in rows.groupby(["task", "metric"], sort=True):
        if not cells["valid"].fillna(value=False).any():
            found[task, metric] = "; ".join(sorted(set(cells["invalid_because"])))
    return found


def text() -> str:
    """The page."""
    return _MARK.sub(lambda mark: PARTS[mark[1]](mark[2]), TEMPLATE.read_text(encoding="utf-8"))


def readme() -> str:
    """The README, in which the block of results on the real model is written anew."""
    block = f"\n{means('reconstruction core')}\n\n{short('reconstruction')}\n\n"
    return _BLOCK.sub(lambda found: found[1] + block + found[2], README.read_text(encoding="utf-8"))


def claims(_: str) -> str:
    """All claims with their verdicts."""
    headings = ("claim", "paper", "k", "ours", "n", "difference [95 %]", "verdict")
    rows = (claim_rows(CLAIMS[report], records(report), reasons(report)) for report in CLAIMS)
    return table(headings, (row for each in rows for row in each))


def short(report: str) -> str:
    """The verdicts on the claims of a report, as a list."""
    return "\n".join(in_words(claim, records(report), reasons(report)) for claim in CLAIMS[report])


def hurry(_: str) -> str:
    """All claims by verdict, as a list."""
    found: dict[str, list[str]] = {}
    for report, some in CLAIMS.items():
        for claim in some:
            for verdict, where in verdicts(claim, records(report), reasons(report)).items():
                found.setdefault(verdict, []).append(f"{claim.text}{where}")
    return "\n".join(f"- **{verdict.capitalize()}**: {'; '.join(texts)}." for verdict, texts in found.items())


def means(argument: str) -> str:
    """`REPORT TASK`: means over seeds ± sd by variant and k."""
    report, task = argument.split()
    rows = list(_means(records(report), task))
    headings = ("k", "SAE", "seeds", *(heading for _, heading, _ in COLUMNS[task]))
    return table(headings, rows) or f"No cell of `{task}` has been computed yet."


def _means(cells: Iterable[Record], task: str) -> Iterator[tuple[str, ...]]:
    own = [cell for cell in cells if cell["labels"]["task"] == task and cell["labels"]["view"] == "native"]
    order = variant_order(cell["labels"]["variant"] for cell in own)
    widths = {cell["labels"]["width"] for cell in own}
    places: dict[tuple[int, int, int], list[Record]] = {}
    for cell in own:
        labels = cell["labels"]
        places.setdefault((_k(cell), order.index(labels["variant"]), labels["width"]), []).append(cell)
    for (k, place, width), some in sorted(places.items(), key=lambda each: each[0]):
        numbers = [
            _number([each["scores"][name] for each in some if name in each["scores"]], digits)
            for name, _, digits in COLUMNS[task]
        ]
        yield str(k), _sae(order[place], width if len(widths) > 1 else None), str(len(some)), *numbers


def _sae(variant: str, width: int | None) -> str:
    """An SAE's title with its settings, and with its number of latents if they differ."""
    more = [text for text in (settings_text(variant), f"{width:,} latents" if width else "") if text]
    return ", ".join([variant_style(variant).title, *more])


def _k(cell: Record) -> int:
    return int(cell["labels"]["k"])


def _number(values: Sequence[float], decimals: int) -> str:
    if not values:
        return "—"
    spread = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{mean(values):.{decimals}f}{spread}"


def best(_: str) -> str:
    """The sweep of learning rates: each variant at the rate with the lowest normalised MSE."""
    chosen: dict[str, tuple[str, Record]] = {}
    for cell in records(SWEEP):
        variant, rate = re.fullmatch(r"(\w+)\[learning_rate=(.+)\]", cell["labels"]["variant"]).groups()
        if variant not in chosen or cell["scores"]["nmse"] < chosen[variant][1]["scores"]["nmse"]:
            chosen[variant] = rate, cell
    ordered = sorted(chosen.items(), key=lambda each: each[1][1]["scores"]["nmse"])
    rows = [
        (
            variant_style(variant).title,
            rate,
            *(f"{cell['scores'][name]:.{digits}f}" for name, _, digits in COLUMNS["core"]),
        )
        for variant, (rate, cell) in ordered
    ]
    return table(("SAE", "learning rate", *(heading for _, heading, _ in COLUMNS["core"])), rows)


def shares(metric: str) -> str:
    """AbsTopK against TopK by a metric of recovery, by the share of features that are two-sided."""
    cells = _report(SHARES)
    claim = Claim("", "", "recovery", metric, higher=True)
    worlds = {model: _two_sided(model) for model in {cell["labels"]["model"] for cell in cells}}
    rows = [
        (f"{100 * worlds[model]:g} %", *row[3:])
        for model in sorted(worlds, key=lambda each: worlds[each])
        for row in claim_rows([claim], [cell for cell in cells if cell["labels"]["model"] == model])
    ]
    headings = ("two-sided features", "AbsTopK, TopK", "n", "difference [95 %]", "AbsTopK is better")
    return table(headings, rows) or "Not computed yet."


def _two_sided(model: str) -> float:
    described = yaml.safe_load((ROOT / "configs" / "models" / f"{model}.yaml").read_text(encoding="utf-8"))
    return float(described["synthetic"]["two_sided"])


def own(argument: str) -> str:
    """`REPORT HEADING`: the table of a report with this heading, its notes, and those that its marks name.

    Notes on all tables of a report, which follow those of its last table, are left out.
    """
    report, heading = argument.split(maxsplit=1)
    file = REPORTS / report / "table.md"
    if not file.exists():
        return "Not computed yet."
    whole = file.read_text(encoding="utf-8")
    (found,) = (each for each in re.split(r"^## ", whole, flags=re.MULTILINE) if each.startswith(heading))
    parts = found.partition("\n")[2].strip().split("\n\n")
    notes_at = next((place for place, part in enumerate(parts) if part.startswith("- ")), len(parts) - 1)
    shown = "\n\n".join(parts[: notes_at + 1])
    marks = {mark for marks in _MARKS.findall(shown) for mark in marks.split(",")}
    notes = (line for line in whole.splitlines() if (note := _NOTE.match(line)) and note[1] in marks)
    # `[23.3, 39.6] [1]` would be a link to a reference 1.
    return _AFTER_INTERVAL.sub(r"] \\[\1\\]", "\n".join((shown, *notes)))


def figure(argument: str) -> str:
    """`REPORT FILE CAPTION`: a figure of a report, if there is one."""
    report, name, caption = argument.split(maxsplit=2)
    path = (REPORTS / report / name).relative_to(ROOT)
    return f"![{caption}](../{path.as_posix()})" if (ROOT / path).exists() else ""


PARTS: Mapping[str, Callable[[str], str]] = {
    "claims": claims,
    "short": short,
    "hurry": hurry,
    "means": means,
    "best": best,
    "figure": figure,
    "own": own,
    "shares": shares,
}
