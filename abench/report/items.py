"""The values of single items of which a cell's metrics are means, where the cell's details have them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from abench.declaration import is_finite
from abench.report.frame import Record
from abench.statistics import Interval, bootstrap_interval

RESAMPLES = 2_000
"""Fewer than `bootstrap_interval` draws by default, because a report may have very many cells."""
_TOLERANCE = 1e-6


class Item(NamedTuple):
    """One item's value and its weight in the mean."""

    value: float
    weight: float


Items = Mapping[str, Item]
"""Name of an item (the names that `*` stands for, with / between them) -> its value and weight."""


def items_of(record: Record, metric: Mapping[str, Any]) -> Items | None:
    """The items of a metric of a cell; None if the cell does not have them.

    Their weighted mean is the score: values of which it is not are no items of this score.
    """
    path = metric.get("items")  # cells of earlier versions of abench lack the entry
    if record["status"] != "done" or path is None:
        return None
    found = {"/".join(names): item for names, item in _below(record.get("details"), path.split("."), 1.0)}
    if not found or not all(is_finite(item.value) for item in found.values()):
        return None
    total = math.fsum(item.weight for item in found.values())
    items = {name: Item(value, weight / total) for name, (value, weight) in found.items()}
    score = record["scores"][metric["name"]]
    mean = math.fsum(value * weight for value, weight in items.values())
    return items if abs(mean - score) <= _TOLERANCE * max(1.0, abs(score)) else None


def item_interval(items: Items) -> Interval | None:
    """The bootstrap interval of the mean over items; None for too few items."""
    weighted = [value * weight for value, weight in items.values()]
    return bootstrap_interval(weighted, [item.weight for item in items.values()], resamples=RESAMPLES)


def _below(node: Any, path: list[str], weight: float) -> Iterator[tuple[tuple[str, ...], Item]]:
    """The items at the end of a path; siblings at a `*` share the weight equally."""
    if not path:
        yield (), Item(node, weight)
        return
    name, *rest = path
    if not isinstance(node, Mapping):
        return
    if name != "*":
        yield from _below(node[name], rest, weight) if name in node else ()
        return
    each = {sibling: list(_below(value, rest, 1.0)) for sibling, value in node.items()}
    each = {sibling: found for sibling, found in each.items() if found}
    for sibling, found in each.items():
        share = weight / len(each) / math.fsum(item.weight for _, item in found)
        yield from (((sibling, *names), Item(v, w * share)) for names, (v, w) in found)
