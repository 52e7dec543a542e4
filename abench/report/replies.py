"""Replies of steered models to harmful requests, for the collapsed part of the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abench.report.frame import Record
from abench.report.rows import stored
from abench.report.saes import absent_last, sae_name
from abench.report.steering_details import RULE_TITLES, choice_text, rules_of
from abench.report.style import Styles, variant_order

Example = Mapping[str, Any]
"""A stored reply: `request`, `context`, `reply`, `verdict`, `refuses`, `degenerate`."""


def steered_replies(records: Sequence[Record], styles: Styles) -> list[dict[str, Any]]:
    """Each method that steered, with its title and the stored requests with unsteered and steered replies."""
    found: dict[str, dict[str, Any]] = {}
    order = variant_order(record["labels"]["variant"] for record in records)
    for record in sorted(stored(records, "steering"), key=lambda record: _place(record, order)):
        for method in _methods(record, styles):
            # Every SAE's cell contains DiM; it is shown once per model and site.
            found.setdefault(method["title"], method)
    return list(found.values())


def _place(record: Record, order: Sequence[str]) -> tuple[Any, ...]:
    labels = record["labels"]
    variant = order.index(labels["variant"])
    k, seed = absent_last(labels["k"]), absent_last(labels["seed"])
    return (labels["model"], labels["site"], variant, k, labels["width"], seed)


def _methods(record: Record, styles: Styles) -> Iterator[dict[str, Any]]:
    labels, kept = record["labels"], record["details"]["steering"]
    sae = sae_name(labels, styles)
    unsteered = kept["original"].get("examples", ())
    for name, method in (("DiM", kept["dim"]), (sae, kept["sae"])):
        rules: dict[str, list[str]] = {}
        replies = {}
        for rule, choice in rules_of(method).items():
            if choice["steered"] and choice["chosen"].get("examples"):
                text = choice_text(method, choice)
                rules.setdefault(text, []).append(RULE_TITLES[rule])
                replies[text] = choice["chosen"]["examples"]
        for text, chosen_by in rules.items():
            by = f" ({', '.join(chosen_by)})" if "rules" in method else ""
            title = f"{labels['model']}, {labels['site']}: {name}{by}: {text}"
            rows = [_row(*pair) for pair in zip(unsteered, replies[text], strict=True)]
            yield {"title": title, "rows": rows}


def _row(unsteered: Example, steered: Example) -> dict[str, Any]:
    return {
        "request": unsteered["request"],
        "context": unsteered["context"],
        "replies": [{"text": each["reply"], "verdict": _verdict(each)} for each in (unsteered, steered)],
    }


def _verdict(example: Example) -> str:
    """The judge's verdict, and whether the reply refuses or makes no sense, independently of the judge."""
    if example["verdict"] == "invalid":
        return "unparsable verdict"
    parts = [example["verdict"]]
    parts += ["refuses"] if example["refuses"] else []
    parts += ["makes no sense"] if example["degenerate"] else []
    return ", ".join(parts)
