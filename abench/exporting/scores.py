"""All scores as one table: a row per cell and metric, in the columns of data.csv and a few more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from abench.report import tidy
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
| `valid`, `invalid_because` | whether the score means something, and why not |
| `sae_key` | what identifies the SAE |
| `limited` | whether the evaluation was limited to a few items, for a quick trial |
"""


def scores_frame(records: Iterable[Record]) -> pd.DataFrame:
    """The scores of all cells as a tidy frame (`abench.report.tidy`) with `sae_key` and `limited`.

    Cells that differ only in their options have the same labels; `key` tells them apart.
    """
    import pandas as pd

    records = list(records)
    frames = [
        tidy([asdict(record)]).assign(sae_key=record.sae_key, limited=record.limited) for record in records
    ]
    frame = pd.concat(frames, ignore_index=True)
    order = ["model", "site", "variant", "k", "width", "seed", "task", "view", "key", "metric"]
    return frame.sort_values(order, kind="stable", ignore_index=True)


def write_scores(records: Iterable[Record], folder: Path) -> None:
    """Write scores.csv and README.md, a data set's card for the hub."""
    from abench.version import __version__

    frame = scores_frame(records)
    write_frame(frame, folder / FILE)
    text = _CARD.format(file=FILE, cells=frame["key"].nunique(), rows=len(frame), version=__version__)
    write_text(folder / "README.md", text)
