"""What a report says about its run: the files run.yaml and provenance.json, and a section of the page."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abench.config import PROVENANCE, PROVENANCE_FORMAT, ReportSpec
from abench.report.frame import Record
from abench.storage.files import write_parts, write_text

CONFIGURATION = "run.yaml"
_ORIGINS = {
    "devices": "device",
    "hosts": "host",
    "platforms": "platform",
    "git_commits": "git_commit",
    "sources": "source",
}
"""Entries of provenance.json, and the facts in the provenance of cells that they list."""


@dataclass(frozen=True)
class About:
    """The run of a report, as far as it is known."""

    command: str
    """The command line that describes the run."""
    configuration: Mapping[str, Any]
    """Every key of the run's configuration, as plain JSON."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a reader of the tables must know, by heading: model, tokens, learning rate, ..."""
    plugins: Sequence[str] = ()
    """Folders with tasks, variants, judges and models that the run needs."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Name, commit, precision and context of the language model."""

    @property
    def layout(self) -> ReportSpec:
        """How the report looks."""
        return ReportSpec.model_validate(self.configuration.get("report") or {})

    @property
    def metrics(self) -> Sequence[str] | None:
        """The columns of the report's only table; None if it has the usual tables."""
        return self.configuration.get("metrics")

    def yaml(self) -> str:
        """The configuration as a file that `abench run` reads."""
        import yaml

        text = yaml.safe_dump(dict(self.configuration), sort_keys=False, allow_unicode=True, width=100)
        return f"# {self.command}\n{text}"


def training_facts(run: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of data.csv about a run and the training of an SAE, from the SAE's spec.

    An SAE that abench did not train has neither tokens nor a learning rate.
    """
    training, variant = spec.get("training") or {}, spec.get("variant")
    options = {}
    if isinstance(variant, Mapping):
        # The version or the code's hash of a variant that does not come with abench is part of the key.
        options = {name: value for name, value in variant.items() if name not in _NO_OPTIONS}
    return {
        "run": run,
        "tokens": training.get("tokens"),
        "learning_rate": training.get("learning_rate"),
        "options": json.dumps(options, sort_keys=True, ensure_ascii=False) if options else "",
    }


_NO_OPTIONS = frozenset({"name", "version", "code"})


def write_about(
    about: About, records: Sequence[Record], specs: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    """Write run.yaml and provenance.json, from which `abench run --from` repeats the run."""
    write_text(folder / CONFIGURATION, about.yaml())
    content = {
        "abench_provenance": PROVENANCE_FORMAT,
        "command": about.command,
        "configuration": about.configuration,
        "plugins": list(about.plugins),
        "model": about.model,
        **origins(records),
    }
    write_parts(folder / PROVENANCE, _provenance(content, specs, records))


def _provenance(
    content: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]], records: Sequence[Record]
) -> Iterator[str]:
    """The text of provenance.json, part by part.

    Python's encoder of indented text takes ten times as long as the other one, so what can be long has a line
    per entry.
    """
    yield "{\n"
    yield from (f"{_json(name)}: {_json(value, indent=1)},\n" for name, value in content.items())
    yield '"specs": {'
    yield from _entries(f"{_json(key)}: {_json(spec)}" for key, spec in specs.items())
    yield '},\n"cells": ['
    yield from _entries(_json(_cell(each)) for each in sorted(records, key=lambda each: str(each["key"])))
    yield "]\n}\n"


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def _entries(texts: Iterable[str]) -> Iterator[str]:
    """The entries of an object or list, on a line each."""
    between = "\n"
    for text in texts:
        yield between + text
        between = ",\n"
    yield "\n"


def origins(records: Iterable[Record]) -> dict[str, Any]:
    """Where and with what the values were computed: every value that occurs, and versions by package."""
    found: dict[str, set[str]] = {name: set() for name in _ORIGINS}
    packages: dict[str, set[str]] = {}
    # Cells computed with the same packages mostly share one mapping, which is processed once.
    seen: set[int] = set()
    for record in records:
        provenance = record["provenance"] or {}
        for name, fact in _ORIGINS.items():
            if provenance.get(fact):
                found[name].add(str(provenance[fact]))
        versions = provenance.get("packages") or {}
        if id(versions) not in seen:
            seen.add(id(versions))
            for package, version in versions.items():
                packages.setdefault(package, set()).add(str(version))
    return {
        **{name: sorted(values) for name, values in found.items()},
        "packages": {package: sorted(packages[package]) for package in sorted(packages)},
    }


def _cell(record: Record) -> dict[str, Any]:
    return {
        **record["labels"],
        "status": record["status"],
        "key": record["key"],
        "sae_key": record["sae_key"],
        "scores": record["scores"],
    }
