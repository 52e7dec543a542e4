"""What steered models replied to harmful requests, for the folded part of the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abench.report.frame import Record
from abench.report.safety import choice
from abench.report.style import Styles, variant_order, variant_style

Example = Mapping[str, Any]
"""A kept reply: `request`, `context`, `reply`, `verdict`, `refuses`, `degenerate`."""


def steered_replies(records: Sequence[Record], styles: Styles) -> list[dict[str, Any]]:
    """For each method that steered, its title and the kept requests with the unsteered and steered reply."""
    found: dict[str, dict[str, Any]] = {}
    order = variant_order(record["labels"]["variant"] for record in records)
    for record in sorted(filter(_steered, records), key=lambda record: _place(record, order)):
        for method in _methods(record, styles):
            # Every SAE's cell carries DiM; it is shown once a model and site.
            found.setdefault(method["title"], method)
    return list(found.values())


def _steered(record: Record) -> bool:
    return record["status"] == "done" and (record.get("details") or {}).get("steering") is not None


def _place(record: Record, order: Sequence[str]) -> tuple[Any, ...]:
    labels = record["labels"]
    variant = order.index(labels["variant"])
    return (labels["model"], labels["site"], variant, labels["k"], labels["width"], labels["seed"])


def _methods(record: Record, styles: Styles) -> Iterator[dict[str, Any]]:
    labels, kept = record["labels"], record["details"]["steering"]
    sae = (
        f"{variant_style(labels['variant'], styles).title}, k = {labels['k']}, {labels['width']} latents, "
        f"seed {labels['seed']}"
    )
    unsteered = kept["original"].get("examples", ())
    for name, method in (("DiM", kept["dim"]), (sae, kept["sae"])):
        steered = method["chosen"].get("examples", ())
        if method["strength"] and steered:
            title = f"{labels['model']}, {labels['site']}: {name}: {choice(method)}"
            yield {"title": title, "rows": [_row(*pair) for pair in zip(unsteered, steered, strict=True)]}


def _row(unsteered: Example, steered: Example) -> dict[str, Any]:
    return {
        "request": unsteered["request"],
        "context": unsteered["context"],
        "replies": [{"text": each["reply"], "verdict": _verdict(each)} for each in (unsteered, steered)],
    }


def _verdict(example: Example) -> str:
    """The judge's word, and whether the reply refuses or makes no sense, whatever the judge said."""
    if example["verdict"] == "invalid":
        return "verdict unreadable"
    parts = [example["verdict"]]
    parts += ["refuses"] if example["refuses"] else []
    parts += ["makes no sense"] if example["degenerate"] else []
    return ", ".join(parts)
