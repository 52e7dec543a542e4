"""Where a repeated run differs from the run that a report's provenance.json recorded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abench.report.manifest import CELL, short
from abench.results.jobs import Cell
from abench.results.store import Store
from abench.runs.plan import Plan
from abench.runs.provenance import package_versions
from abench.storage.keys import difference

_MOST_NAMED = 5
Recorded = Mapping[str, Any]
"""The content of a provenance.json (`abench.config.read_provenance`)."""


def repetition(recorded: Recorded, plans: Sequence[Plan], store: Store) -> list[str]:
    """Sentences about what is the same and what differs: scores, keys, cells, packages."""
    there = {_labels(cell): cell for cell in recorded["cells"] if cell["status"] == "done"}
    here = {_labels(cell.labels()): cell for plan in plans for cell in plan.cells}
    same_key = [labels for labels in here if labels in there and there[labels]["key"] == here[labels].key]
    return [
        *_scores([(there[labels], here[labels]) for labels in same_key], store),
        *_other_keys(recorded, there, here),
        *_one_sided(there, here),
        *_packages(recorded),
    ]


def _labels(labels: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(labels[name] for name in CELL)


def _scores(pairs: Sequence[tuple[Recorded, Cell]], store: Store) -> Iterator[str]:
    """What became of the cells with equal keys."""
    equal, differing, without = 0, [], 0
    for before, cell in pairs:
        record = store.get_brief(cell)
        if record is None or record.status != "done":
            without += 1
        elif found := _changed(before["scores"], record.scores):
            differing.append(f"{cell.sae.label}, {cell.label}: {found}")
        else:
            equal += 1
    yield f"{equal:,} of {len(pairs):,} cells with the same key have exactly the same scores."
    if differing:
        yield f"{len(differing):,} have other scores: {_some(differing)}."
    if without:
        yield f"{without:,} have scores there but none here."


def _changed(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """The first score that differs, with both values; empty if none does."""
    for name in before:
        if before[name] != now.get(name):
            return f"{name} is {before[name]!r} there and {now.get(name)!r} here"
    return ""


def _other_keys(recorded: Recorded, there: Mapping[Any, Recorded], here: Mapping[Any, Cell]) -> Iterator[str]:
    """Why cells with equal labels have other keys, as far as the recorded sample of specs tells."""
    other = [labels for labels in here if labels in there and there[labels]["key"] != here[labels].key]
    if not other:
        return
    specs = recorded.get("specs") or {}
    known = [labels for labels in other if there[labels]["key"] in specs]
    why = short(difference(specs[there[known[0]]["key"]], here[known[0]].spec())) if known else "unknown"
    yield f"{len(other):,} cells have the same labels but another key ({why}), so they are not compared."


def _one_sided(there: Mapping[Any, Recorded], here: Mapping[Any, Cell]) -> Iterator[str]:
    for number, text in (
        (len(there.keys() - here.keys()), "were scored there but are not part of this run"),
        (len(here.keys() - there.keys()), "are part of this run but have no scores there"),
    ):
        if number:
            yield f"{number:,} cells {text}."


def _packages(recorded: Recorded) -> Iterator[str]:
    """Packages with another version here than any of those there."""
    here = package_versions()
    other = [
        f"{name} {' and '.join(versions)} there, {here.get(name, 'not listed')} here"
        for name, versions in (recorded.get("packages") or {}).items()
        if here.get(name) not in versions
    ]
    if other:
        yield f"Other versions: {_some(other)}."


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return "; ".join([*texts[:_MOST_NAMED], *([f"and {more:,} more"] if more > 0 else [])])
