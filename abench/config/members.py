"""Configurations that stand for several runs.

`each` is a list of mappings, one per model, that are merged into the other keys; the runs share one report.
A run for another model, as `--model` sets it, leaves them out: they hold what belongs to the models that they
name. `small` is a list of the same kind, of which an entry counts only if `--model` names its model. `runs`
names other configurations, each with a report of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from abench.config.sources import merge
from abench.errors import UserError, did_you_mean, short
from abench.yamlfile import Document

EACH, SMALL, RUNS = "each", "small", "runs"
_MOST_RUNS = 100

Read = Callable[[str], Document]
"""Name or file of a configuration -> its content."""


@dataclass(frozen=True)
class Member:
    """One of the runs that a configuration stands for."""

    source: str | None
    """What describes it: a configuration or, after a colon, an entry of its `each`."""
    own_model: bool = False
    """Whether the model of the description must stay, whatever options set."""


def split_member(source: str) -> tuple[str, str | None]:
    """`table1-steering:gemma-2-2b` -> the configuration and the entry of its `each`; None without one."""
    base, colon, label = source.rpartition(":")
    return (base, label) if colon and base and "/" not in label and "\\" not in label else (source, None)


def members_of(source: str | None, model: str | None, read: Read) -> list[list[Member]]:
    """The runs that a configuration stands for; those of one list share a report.

    `model` is the model that options set. Raises UserError.
    """
    if source is None:
        return [[Member(None)]]
    document = read(source)
    names = document.values.get(RUNS)
    if names is None:
        return [_members(source, document, model)]
    if set(document.values) - {"name", "description", RUNS}:
        raise UserError(f"{document.where}: a configuration with {RUNS} holds nothing but a description")
    if not isinstance(names, list) or not 0 < len(names) <= _MOST_RUNS:
        raise UserError(f"{document.where}: {RUNS} must be a list of 1 to {_MOST_RUNS} configurations")
    each = [(str(name), read(str(name))) for name in names]
    if nested := [name for name, content in each if RUNS in content.values]:
        raise UserError(f"{document.where}: {short(nested[0])} has {RUNS} of its own")
    return [_members(name, content, model, among_others=True) for name, content in each]


def _members(
    source: str, document: Document, model: str | None, *, among_others: bool = False
) -> list[Member]:
    if EACH not in document.values or split_member(source)[1] is not None:
        # Among runs of other models, one that is about a model of its own (a toy world) keeps it.
        return [Member(source, own_model=among_others and "model" in document.values)]
    entries = _entries(document, EACH)
    own = {label for label, entry in entries.items() if model in (None, entry["model"])}
    return [Member(f"{source}:{label}") for label in entries if label in own] or [Member(source)]


def without_members(document: Document, label: str | None, model: str | None) -> Document:
    """The one run of a configuration with `each`: the entry with the label, or none for another model.

    Raises UserError if neither a label nor a model says which run is meant.
    """
    if RUNS in document.values:
        names = ", ".join(map(str, document.values[RUNS]))
        raise UserError(f"{document.where} stands for several configurations; name one of them: {names}")
    rest = {key: value for key, value in document.values.items() if key not in (EACH, SMALL)}
    entries = _entries(document, EACH) if EACH in document.values else {}
    if label is not None:
        if label not in entries:
            raise UserError(f"{document.where} has no entry {short(label)}{did_you_mean(label, entries)}")
        return Document(document.where, merge(rest, entries[label]), document.lines)
    if entries and model is None:
        labels = ", ".join(f":{each}" for each in entries)
        raise UserError(
            f"{document.where} stands for several runs: put one of {labels} after its name, or set a model"
        )
    small = _entries(document, SMALL) if SMALL in document.values else {}
    own = next((entry for entry in small.values() if entry["model"] == model), {})
    return Document(document.where, merge(rest, own), document.lines)


def _entries(document: Document, key: str) -> dict[str, Mapping[str, Any]]:
    """Label -> entry of `each`; the label is the model's name, with a number for a repeated model."""
    each = document.values[key]
    whole = isinstance(each, list) and all(isinstance(one, Mapping) and one.get("model") for one in each)
    if not whole or not 0 < len(each) <= _MOST_RUNS:
        raise UserError(f"{document.where}: {key} must be a list of mappings that each have a model")
    found: dict[str, Mapping[str, Any]] = {}
    for entry in each:
        label = str(entry["model"]).replace("/", "--")
        number = sum(name.partition("#")[0] == label for name in found) + 1
        found[label if number == 1 else f"{label}#{number}"] = entry
    return found
