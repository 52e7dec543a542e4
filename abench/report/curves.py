"""The data of the reconstruction figure: one row per point with its error bars."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from abench.report.frame import SAE_GROUP, Record, summarise, tidy
from abench.report.saes import absent_last

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

POINT_COLUMNS = ("panel", *SAE_GROUP, "x", "x_sd", "y", "y_sd", "n")
PANELS = ("training_mse", "nmse", "loss_recovered_zero")
"""The paper's three panels. The first is plotted against training steps, the others are metrics of the task
`core` against measured L0."""


Curve = Mapping[str, Sequence[float]]
"""A training curve: columns by name, including `step` and `mse`. A data frame also works."""


def read_curve(text: str) -> Curve:
    """The training curve in the text of a CSV file; missing values are NaN.

    Without pandas or the csv module, which take much longer for files this small: a curve holds only numbers.
    """
    header, _, rest = text.partition("\n")
    names, rows = header.split(","), rest.splitlines()
    cells = ",".join(rows).split(",") if rows else []
    if len(cells) != len(names) * len(rows):
        raise ValueError(f"a training curve is not a table with {len(names)} columns")
    columns = {name: cells[names.index(name) :: len(names)] for name in ("step", "mse")}
    # A list of floats takes four times the memory, which counts for the curves of thousands of SAEs.
    return {name: array("d", _numbers(texts)) for name, texts in columns.items()}


def _numbers(texts: Sequence[str]) -> Iterator[float]:
    return map(float, [text or "nan" for text in texts] if "" in texts else texts)


def reconstruction_points(
    records: Sequence[Record], curves: Mapping[str, Curve], summary: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds of every point of the figure.

    Columns: panel, model, site, variant, k, width, x, x_sd, y, y_sd, n. A point is omitted if a seed has no
    value for it: means are never taken over fewer seeds than planned. `summary` is `summarise` of the
    records, if already computed.
    """
    import pandas as pd

    metrics = _metric_points(summarise(tidy(records)) if summary is None else summary)
    points = [*_curve_points(records, curves), *metrics]
    frame = pd.DataFrame(points, columns=list(POINT_COLUMNS))
    return frame.astype(
        {"k": "Int64", "width": "Int64", "x": float, "x_sd": float, "y": float, "y_sd": float}
    )


def _curve_points(records: Sequence[Record], curves: Mapping[str, Curve]) -> list[dict[str, Any]]:
    points = []
    for labels, keys in sorted(_seeds(records).items(), key=lambda each: _order(each[0])):
        if all(key in curves for key in keys):
            base = {"panel": PANELS[0], **dict(zip(SAE_GROUP, labels, strict=True)), "x_sd": math.nan}
            points += [{**base, **point} for point in _mean_curve([curves[key] for key in keys])]
    return points


def _seeds(records: Sequence[Record]) -> dict[tuple[Any, ...], list[str]]:
    """Shared labels -> keys of the SAEs that differ only in their seed."""
    found: dict[tuple[Any, ...], dict[int | None, str]] = {}
    for record in records:
        labels = record["labels"]
        seeds = found.setdefault(tuple(labels[label] for label in SAE_GROUP), {})
        seeds[labels["seed"]] = record["sae_key"]
    return {
        labels: [seeds[seed] for seed in sorted(seeds, key=absent_last)] for labels, seeds in found.items()
    }


def _order(labels: tuple[Any, ...]) -> tuple[Any, ...]:
    """A key for sorting the labels of `SAE_GROUP`."""
    return tuple(
        absent_last(each) if name == "k" else each for name, each in zip(SAE_GROUP, labels, strict=True)
    )


def _mean_curve(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """The mean curve over the steps that every seed has; for a repeated step, the last value counts."""
    steps, values = _of_equal_steps(curves) or _of_common_steps(curves)
    means, sds = values.mean(axis=0), _sds(values)
    rows = zip(steps, means.tolist(), sds.tolist(), strict=True)
    return [{"x": step, "y": mean, "y_sd": sd, "n": len(curves)} for step, mean, sd in rows]


def _of_equal_steps(curves: Sequence[Curve]) -> tuple[list[float], NDArray[np.float64]] | None:
    """Steps and values (curves, steps) of curves with the same rising steps and no gap; None for others."""
    import numpy as np

    steps = np.asarray(curves[0]["step"], dtype=float)
    if any(not np.array_equal(curve["step"], steps) for curve in curves) or (np.diff(steps) <= 0).any():
        return None
    values = np.array([curve["mse"] for curve in curves], dtype=float)
    return None if np.isnan(values).any() else (steps.tolist(), values)


def _of_common_steps(curves: Sequence[Curve]) -> tuple[list[float], NDArray[np.float64]]:
    import numpy as np

    by_step = [dict(zip(curve["step"], curve["mse"], strict=True)) for curve in curves]
    found = [{step: mse for step, mse in each.items() if not math.isnan(mse)} for each in by_step]
    steps = sorted(set(found[0]).intersection(*found[1:]))
    return steps, np.array([[each[step] for step in steps] for each in found], dtype=float)


def _sds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample standard deviations over the first axis; NaN for a single value."""
    import numpy as np

    return values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)


def _metric_points(summary: pd.DataFrame) -> list[dict[str, Any]]:
    core = summary[(summary["task"] == "core") & (summary["view"] == "native") & summary["mean"].notna()]
    place = [*SAE_GROUP, "task_version"]
    measured = core[core["metric"] == "l0"][[*place, "mean", "sd"]].rename(
        columns={"mean": "x", "sd": "x_sd"}
    )
    points = []
    for panel in PANELS[1:]:
        values = core[core["metric"] == panel].rename(columns={"mean": "y", "sd": "y_sd"})
        joined = values.merge(measured, on=place).assign(panel=panel)
        points += joined[list(POINT_COLUMNS)].to_dict("records")
    return points
