"""What a run lacks, by cause: cells without values by reason, and preconditions that were not met."""

from collections.abc import Mapping, Sequence
from typing import Any

from abench.report.frame import Record
from abench.report.notes import explain
from abench.report.saes import sae_name
from abench.report.style import Styles
from abench.report.validity import below, number, unmet

MOST_NAMED = 20
"""Most SAEs that an entry names; of more it states how many others there are."""

Entry = dict[str, Any]


def causes(records: Sequence[Record], styles: Styles) -> list[Entry]:
    """One entry per reason why cells have no value, failures first: reason, number, tasks and SAEs."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if reason := explain(record):
            found.setdefault((record["status"], reason), []).append(record)
    ranks = ("failed", "skipped", "missing")
    ordered = sorted(found, key=lambda cause: (ranks.index(cause[0]), -len(found[cause]), cause[1]))
    return [
        {"status": status, "reason": reason, "number": len(cells), **_where(cells, styles)}
        for status, reason in ordered
        for cells in (found[status, reason],)
    ]


def causes_sentence(entries: Sequence[Entry]) -> str:
    """E.g. `15 cells failed for 3 reasons, 2 cells are missing for 1 reason.`; empty without entries."""
    parts = []
    for status, verb in (("failed", ""), ("skipped", "were "), ("missing", "are ")):
        mine = [entry for entry in entries if entry["status"] == status]
        cells, reasons = sum(entry["number"] for entry in mine), len(mine)
        if mine:
            one = "was " if verb == "were " else "is " if verb else ""
            who = f"1 cell {one}" if cells == 1 else f"{cells:,} cells {verb}"
            parts.append(f"{who}{status} for {reasons} {'reason' if reasons == 1 else 'reasons'}")
    return f"{', '.join(parts)}." if parts else ""


def unmet_preconditions(records: Sequence[Record], styles: Styles) -> list[Entry]:
    """One entry per task and precondition that cells do not meet: measured values, bound, metrics, SAEs."""
    found: dict[tuple[str, str], list[tuple[Record, Mapping[str, Any]]]] = {}
    for record in records:
        for each in unmet(record):
            found.setdefault((record["labels"]["task"], each["title"]), []).append((record, each))
    entries = []
    for (task, title), pairs in sorted(found.items()):
        ordered = sorted(pairs, key=lambda pair: pair[1]["value"])
        (_, lowest), (_, highest) = ordered[0], ordered[-1]
        values = dict.fromkeys((below(lowest), below(highest)))
        entries.append(
            {
                "task": task,
                "title": title,
                "values": " to ".join(values),
                "at_least": number(lowest["at_least"]),
                "why": lowest.get("description", ""),
                "metrics": ", ".join(dict.fromkeys(name for _, each in pairs for name in each["metrics"])),
                "saes": _where([record for record, _ in pairs], styles)["saes"],
            }
        )
    return entries


def _where(cells: Sequence[Record], styles: Styles) -> dict[str, str]:
    labels = [cell["labels"] for cell in sorted(cells, key=lambda c: tuple(map(str, c["labels"].values())))]
    names = [f"{each['model']}, {each['site']}: {sae_name(each, styles)}" for each in labels]
    return {
        "tasks": ", ".join(dict.fromkeys(each["task"] for each in labels)),
        "saes": _named(list(dict.fromkeys(names))),
    }


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return "; ".join([*names[:MOST_NAMED], *([f"and {more:,} others"] if more > 0 else [])])
