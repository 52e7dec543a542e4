"""`abench.load_results`: all scores of a results folder, with the hyperparameters of their SAEs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abench.errors import UserError
from abench.report import tidy
from abench.results.store import Store

if TYPE_CHECKING:
    import pandas as pd


def load_results(folder: str | Path) -> "pd.DataFrame":
    """One row per cell and metric in a results folder, from all runs, with hyperparameters in columns.

    The columns of `abench.report.tidy`, then those of the specs, named by their path, such as
    `training.learning_rate`, `variant.bandwidth`, `evaluation.limit` and `task.options.train_texts`. What a
    cell's spec lacks is absent.
    Raises UserError if the folder is not a results folder or holds no scores.
    """
    import pandas as pd

    store = Store.open(Path(folder), create=False)
    frames, specs = [], {}
    for _, record in store.all_records():
        # One by one: cells of different runs can have equal labels.
        frames.append(tidy([vars(record)]))
        specs[record.key] = dict(_leaves(_of_cell(record.spec)))
    if not frames:
        raise UserError(f"there are no scores in {folder}")
    hyperparameters = pd.DataFrame.from_dict(specs, orient="index").rename_axis("key").reset_index()
    frame: pd.DataFrame = pd.concat(frames, ignore_index=True).merge(hyperparameters, on="key", how="left")
    return frame


def _of_cell(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a cell without what the labels say, the SAE's part on the same level as the others."""
    sae = {name: value for name, value in spec.get("sae", {}).items() if name not in _LABELS}
    return sae | {name: value for name, value in spec.items() if name not in (*_LABELS, "sae")}


_LABELS = ("schema", "site", "k", "width", "seed", "view")


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
