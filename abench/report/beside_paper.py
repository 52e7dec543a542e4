"""The paper's numbers beside ours: our nearest value for each, and whether the setting is the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abench.report import bidirectionality, safety
from abench.report.frame import Record
from abench.report.paper_numbers import PaperNumber, all_numbers
from abench.report.steering_details import rules_of

if TYPE_CHECKING:
    import pandas as pd

_TABLES = {"table1": "Table 1", "table2": "Table 2", "table6": "Table 6", "tasks": "Table 3"}
_SAFETY = {"mmlu": "utility", "harmbench": "safety"}
_SAME_OPERATOR = {"abstopk": ("abstopk", "batchabstopk"), "topk": ("topk", "batchtopk")}
"""Variants of the paper, and ours that are the same up to the conflict of its sources about batches."""
_K = {"pythia-70m": 51, "gpt2": 76, "gemma-2-2b": 230, "qwen3-4b": 256}
_WIDTH = {"pythia-70m": 8192, "gpt2": 12288, "gemma-2-2b": 36864, "qwen3-4b": 40960}
_TOKENS = (3_840_000, 122_880_000)
"""Of the authors' code and of the paper's text."""
_SEEDS = 5
_OF_METHODS = ("original", "dim")
"""Rows of Table 1 that belong to no SAE."""


@dataclass(frozen=True)
class Ours:
    """A value of this run, and where it comes from."""

    mean: float
    sd: float | None
    n: int
    model: str
    site: str
    variant: str
    k: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class Beside:
    """One number of the paper, our nearest value, and what differs between the two settings."""

    paper: PaperNumber
    ours: Ours
    differs: tuple[str, ...]
    """Empty if the setting is the same as far as it is known."""

    @property
    def table(self) -> str:
        """The table of the paper, e.g. `Table 1`."""
        return _TABLES[self.paper.table]

    @property
    def difference(self) -> float:
        """Ours minus the paper's."""
        return self.ours.mean - float(self.paper.value)

    @property
    def decimals(self) -> int:
        """Those of the paper's number."""
        return len(self.paper.value.partition(".")[2])


def beside_paper(summary: pd.DataFrame, records: Sequence[Record]) -> list[Beside]:
    """A row for every number of the paper for which this run has a value, in the paper's order.

    Ours is the value of the same variant whose model, layer, k and width are nearest to the paper's; a mean
    that lacks a seed is no value. `summary` is `summarise` of the records.
    """
    shown = _paper_metrics(records)
    values = _by_metric(summary)
    about = {_place(record): record for record in records if record["status"] == "done"}
    found = []
    for number in all_numbers():
        candidates = _candidates(number, values, shown, records)
        if candidates:
            ours = min(candidates, key=lambda each: _distance(number, each))
            found.append(Beside(number, ours, tuple(_differences(number, ours, about))))
    return found


Values = Mapping[tuple[str, str], Sequence[Ours]]
"""(task, metric) -> values in the native view."""


def _by_metric(summary: pd.DataFrame) -> dict[tuple[str, str], list[Ours]]:
    found: dict[tuple[str, str], list[Ours]] = {}
    for row in summary[summary["mean"].notna() & (summary["view"] == "native")].itertuples():
        ours = Ours(
            float(row.mean),
            None if row.sd != row.sd else float(row.sd),
            int(row.n),
            *(str(row.model), str(row.site), str(row.variant), _whole(row.k), _whole(row.width)),
        )
        found.setdefault((str(row.task), str(row.metric)), []).append(ours)
    return found


def _whole(value: Any) -> int | None:
    import pandas as pd

    return None if pd.isna(value) else int(value)


def _paper_metrics(records: Iterable[Record]) -> dict[str, tuple[str, bool]]:
    """Task -> the metric in the paper's table of tasks, and whether 1 − score is shown."""
    found: dict[str, tuple[str, bool]] = {}
    for record in records:
        for metric in record["metrics"]:
            if metric.get("paper") is not None:
                found.setdefault(record["labels"]["task"], (metric["name"], metric["paper"] == "1 - score"))
    return found


def _candidates(
    number: PaperNumber,
    values: Values,
    shown: Mapping[str, tuple[str, bool]],
    records: Sequence[Record],
) -> list[Ours]:
    """Our values that could stand beside a number, in its unit."""
    if number.variant in _OF_METHODS:
        return list(_of_methods(number, records))
    if number.table == "tasks":
        metric, complement = shown.get(number.metric, ("", False))
        found, scale = values.get((number.metric, metric), ()), 1.0
    else:
        task = bidirectionality.TASK if number.table == "table2" else safety.TASK
        name = _SAFETY.get(number.metric, number.metric)
        found, scale, complement = values.get((task, name), ()), 100.0, False
    own = _SAME_OPERATOR.get(number.variant, (number.variant,))
    return [_scaled(each, scale, complement=complement) for each in found if each.variant in own]


def _scaled(ours: Ours, scale: float, *, complement: bool) -> Ours:
    mean = scale * (1 - ours.mean if complement else ours.mean)
    sd = None if ours.sd is None else scale * ours.sd
    return Ours(mean, sd, ours.n, ours.model, ours.site, ours.variant, ours.k, ours.width)


def _of_methods(number: PaperNumber, records: Sequence[Record]) -> Iterator[Ours]:
    """Our values of the unsteered model or of DiM, which every cell of an SAE repeats."""
    seen = set()
    for record in records:
        kept = (record.get("details") or {}).get("steering")
        labels = record["labels"]
        if record["status"] != "done" or kept is None or (labels["model"], labels["site"]) in seen:
            continue
        seen.add((labels["model"], labels["site"]))
        dim = rules_of(kept["dim"])["paper"]["chosen"]
        outcome = kept["original"] if number.variant == "original" else dim
        share = outcome[_SAFETY[number.metric]][0]
        yield Ours(100 * share, None, 1, labels["model"], labels["site"], number.variant)


def _distance(number: PaperNumber, ours: Ours) -> tuple[Any, ...]:
    near_k, near_width = _K.get(number.model, 0), _WIDTH.get(number.model, 0)
    return (
        ours.model != number.model,
        ours.site != f"blocks.{number.layer}.hook_resid_post",
        ours.variant != number.variant,
        abs((ours.k or 0) - near_k),
        abs((ours.width or 0) - near_width),
        ours.site,
    )


def _place(record: Record) -> tuple[Any, ...]:
    labels = record["labels"]
    return tuple(labels[name] for name in ("model", "site", "variant", "k", "width"))


def _differences(number: PaperNumber, ours: Ours, about: Mapping[Any, Record]) -> Iterator[str]:
    """What differs between the settings, as far as the paper's is known."""
    if ours.model != number.model:
        yield f"model ({ours.model})"
    layer = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", ours.site)
    if layer is None or layer[1] != number.layer:
        yield f"site ({ours.site})"
    record = about.get((ours.model, ours.site, ours.variant, ours.k, ours.width))
    if record is None:
        record = next((r for r in about.values() if r["labels"]["model"] == ours.model), None)
    if record is not None and record["limited"]:
        yield "only part of the data"
    if number.variant in _OF_METHODS:
        return
    if ours.k != _K.get(number.model):
        yield f"k ({_number(ours.k)}; {_number(_K.get(number.model))} there)"
    if ours.width != _WIDTH.get(number.model):
        yield f"latents ({_number(ours.width)}; {_number(_WIDTH.get(number.model))} there)"
    tokens = ((record or {}).get("about") or {}).get("tokens")
    if not any(tokens is not None and abs(tokens - each) <= 0.01 * each for each in _TOKENS):
        yield f"training ({_number(tokens)} tokens)"
    if number.table == "tasks" and ours.n != _SEEDS:
        yield f"seeds ({ours.n}; {_SEEDS} there)"


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
