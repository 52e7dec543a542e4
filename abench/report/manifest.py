"""The manifest of a report: its files with their hashes, and the cells whose values it shows.

The manifest, not a pattern of names, determines which files of a folder a later report may replace.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from abench.errors import UserError
from abench.report.frame import Record, read_tidy
from abench.storage.files import file_hash, write_text

MANIFEST = "report.json"
CELL = ("model", "site", "variant", "k", "width", "seed", "task", "view")
"""The labels by which cells of two reports are matched; task versions may differ."""
_FORMAT = 1

# The files of reports of earlier versions, which have no manifest.
_EARLIER = re.compile(
    r"data\.csv|index\.html|table\.(md|csv|tex)"
    r"|(reconstruction|task_scores|toy|bidirectionality|tradeoff)(-.*)?\.(png|pdf|csv)"
)

Labels = tuple[Any, ...]
"""In the order of `CELL`."""
Spec = Mapping[str, Any]
SpecOf = Callable[[str], Spec | None]
"""Key of a cell -> its spec, if known."""


@dataclass(frozen=True)
class Manifest:
    """The files and cells of a report."""

    files: Mapping[str, str]
    """File name -> sha256."""
    values: Mapping[Labels, str]
    """Labels -> key, for the cells with values."""
    specs: Mapping[str, Spec] = field(default_factory=dict)
    """Key -> spec, for a sample of the cells: one per model, variant and task."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """File name without extension -> hash of everything that the figure was drawn from."""
    listed: bool = True
    """Whether the manifest was read; False if it was guessed from the file names of earlier versions."""

    def owns(self, file: Path) -> bool:
        """Whether a file in the report's folder is unchanged since the report wrote it."""
        if file.is_symlink() or not file.is_file():
            return False
        if file.name == MANIFEST:
            return self.listed
        if not self.listed:
            return file.name in self.files
        return file.name in self.files and file_hash(file) == self.files[file.name]


_in_order = itemgetter(*CELL)


def labels_of(record: Record) -> Labels:
    """A record's labels in the order of `CELL`."""
    labels: Labels = _in_order(record["labels"])
    return labels


def manifest_of(
    folder: Path, records: Iterable[Record], spec_of: SpecOf, figures: Mapping[str, str]
) -> Manifest:
    """The manifest of a report that has been written to `folder`; `figures` without a file are ignored."""
    files = {file.name: file_hash(file) for file in sorted(folder.iterdir())}
    done = _done(records)
    specs = sampled_specs(done, spec_of)
    values = {labels_of(record): str(record["key"]) for record in done}
    drawn = {name: digest for name, digest in figures.items() if f"{name}.png" in files}
    return Manifest(files, values, specs, drawn)


def sampled_specs(records: Iterable[Record], spec_of: SpecOf) -> dict[str, Spec]:
    """Key -> spec of a sample of the cells with values: one per model, variant and task."""
    samples: dict[tuple[Any, ...], str] = {}
    for record in _done(records):
        place = tuple(record["labels"][name] for name in ("model", "variant", "task"))
        samples.setdefault(place, str(record["key"]))
    return {key: spec for key in samples.values() if (spec := spec_of(key))}


def _done(records: Iterable[Record]) -> list[Record]:
    return sorted((record for record in records if record["status"] == "done"), key=lambda r: str(r["key"]))


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest to a report's folder; equal content gives equal bytes."""
    content = {
        "abench_report": _FORMAT,
        "files": dict(manifest.files),
        "cells": CELL,
        "values": sorted([*labels, key] for labels, key in manifest.values.items()),
        "specs": dict(manifest.specs),
        "figures": dict(manifest.figures),
    }
    text = json.dumps(content, sort_keys=True, allow_nan=False) + "\n"
    write_text(folder / MANIFEST, text)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a report's folder; None if there is no report.

    For a report of an earlier version, or with a damaged manifest, it is reconstructed from the file names
    and data.csv.
    """
    if not folder.is_dir():
        return None
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if content["abench_report"] == _FORMAT and tuple(content["cells"]) == CELL:
            values = {tuple(labels): str(key) for *labels, key in content["values"]}
            # Reports of earlier versions lack the figures' hashes.
            figures = dict(content.get("figures", {}))
            return Manifest(dict(content["files"]), values, dict(content["specs"]), figures)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # missing, damaged, or the user's own file with that name
    return _of_earlier(folder) if (folder / "index.html").is_file() else None


def _of_earlier(folder: Path) -> Manifest:
    names = {file.name: "" for file in folder.iterdir() if _EARLIER.fullmatch(file.name)}
    try:
        return Manifest(names, _values(folder / "data.csv"), listed=False)
    except (OSError, ValueError, TypeError, UserError):
        return Manifest(names, {}, listed=False)  # without its data, the report's values are unknown


def _values(data: Path) -> dict[Labels, str]:
    frame = read_tidy(data)
    done = frame[frame["status"] == "done"].drop_duplicates("key")
    rows = done[[*CELL, "key"]].itertuples(index=False, name=None)
    return {tuple(v if isinstance(v, str) else int(v) for v in labels): str(key) for *labels, key in rows}


def short(values: Sequence[tuple[str, Any, Any]], most: int = 3) -> str:
    """Differences of two specs for a sentence: the first few, with both values."""
    parts = [f"{path} is {_brief(old)} there and {_brief(new)} here" for path, old, new in values[:most]]
    more = len(values) - most
    return "; ".join([*parts, *([f"and {more} more"] if more > 0 else [])])


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
