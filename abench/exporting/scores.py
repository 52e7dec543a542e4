"""All scores as one table: a row per cell and metric, in the columns of data.csv and a few more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.report import tidy
from abench.report.about import training_facts
from abench.report.csvfile import write_frame
from abench.results.records import Record
from abench.storage.files import write_text

if TYPE_CHECKING:
    import pandas as pd

FILE = "scores.csv"
_CARD = """---
configs:
- config_name: scores
  data_files: {file}
tags:
- sparse-autoencoders
- evaluation
---
# Scores of sparse autoencoders

{cells} cells with {rows} values, written by abench {version}. One row per SAE, task,
view and metric.

| column | holds |
|---|---|
| `model`, `site` | the language model and the place in it that the SAE reads |
| `variant`, `k`, `width`, `seed` | the SAE's variant, sparsity, number of latents and seed |
| `task`, `task_version`, `view` | the evaluation; `native`: a signed latent is one unit, `split`: two |
| `metric`, `value`, `higher_is_better` | one score; empty where the cell has none |
| `status`, `key` | whether the cell is done, and what identifies everything that its scores depend on |
| `valid`, `invalid_because` | whether the score means something, and why not, or why there is none |
| `tokens`, `learning_rate`, `options` | the SAE's training and the options of its variant, as JSON |
| `sae_key` | what identifies the SAE |
| `limited` | whether the evaluation was limited to a few items, for a quick trial |
"""


def scores_frame(records: Iterable[Record]) -> pd.DataFrame:
    """The scores of all cells as a tidy frame (`abench.report.tidy`) with `sae_key` and `limited`.

    Cells that differ only in their options have the same labels; `key` tells them apart.
    """
    import pandas as pd

    by_key = {record.key: record for record in records}
    # `tidy` refuses cells with equal labels, so each of its frames gets the nth cell with given labels.
    turns: dict[str, int] = {}
    groups: dict[int, list[dict[str, Any]]] = {}
    for record in by_key.values():
        labels = repr(sorted(record.labels.items()))
        turns[labels] = turns.get(labels, -1) + 1
        groups.setdefault(turns[labels], []).append(plain(record))
    frame = pd.concat([tidy(group) for group in groups.values()], ignore_index=True)
    frame["sae_key"] = [by_key[key].sae_key for key in frame["key"]]
    frame["limited"] = [by_key[key].limited for key in frame["key"]]
    order = ["model", "site", "variant", "k", "width", "seed", "task", "view", "key", "metric"]
    return frame.sort_values(order, kind="stable", ignore_index=True)


def plain(record: Record) -> dict[str, Any]:
    """A record as the mapping that reports read; not copied, since a folder may hold very many."""
    about = training_facts("", record.spec.get("sae") or {})
    return {field.name: getattr(record, field.name) for field in fields(record)} | {"about": about}


def write_scores(records: Iterable[Record], folder: Path) -> None:
    """Write scores.csv and README.md, a data set's card for the hub."""
    from abench.version import __version__

    frame = scores_frame(records)
    write_frame(frame, folder / FILE)
    text = _CARD.format(file=FILE, cells=frame["key"].nunique(), rows=len(frame), version=__version__)
    write_text(folder / "README.md", text)
