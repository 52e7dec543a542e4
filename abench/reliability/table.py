"""The figures of reliability as text, Markdown and CSV."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from abench.reliability.figures import Figures
from abench.report.comparisons import TextTable, markdown_tables
from abench.report.csvfile import write_frame
from abench.storage.files import write_text

HEADER = (
    "task",
    "metric",
    "mean",
    "reseed noise",
    "training noise",
    "discrimination",
    "resolves",
    "validity",
)
COLUMNS = (
    "title",
    "headline",
    "mean",
    "reseed",
    "reseeds",
    "training",
    "trainings",
    "discrimination",
    "resolves",
    "truth",
    "validity",
    "validity_p",
    "validity_n",
    "validity_low",
    "validity_high",
)
_VALIDITY = (
    "Validity: Spearman's rank correlation of the metric with the known truth, {}, over the SAEs of the "
    "study (all seeds, shares of the tokens and variants with this k and width), with its 95 % interval "
    "(none for ±1) and the p value of a permutation test, not corrected for the number of metrics. Positive: "
    "better scores belong to truly better SAEs (where neither direction is better: higher scores). —: fewer "
    "than four SAEs, or the metric does not vary."
)
_NO_TRUTH = "Validity: the truth about this model is not known ({}), so there is nothing to correlate with."
FILES = ("reliability.csv", "reliability.md")


def tables_of(figures: Sequence[Figures], unknown: str = "") -> list[TextTable]:
    """One table per model, site, variant, k and width; `unknown` is why there is no truth, for a note."""
    places = list(dict.fromkeys(each.place[:5] for each in figures))
    return [_table([each for each in figures if each.place[:5] == place], unknown) for place in places]


def write_tables(figures: Sequence[Figures], folder: Path, unknown: str = "") -> None:
    """Write reliability.csv, with every number in full, and reliability.md. Raises OSError."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**each.place._asdict(), **{name: getattr(each, name) for name in COLUMNS}} for each in figures]
    frame = pd.DataFrame(rows)
    write_frame(frame, folder / FILES[0])
    write_text(folder / FILES[1], "# Reliability of metrics\n" + markdown_tables(tables_of(figures, unknown)))


def _table(figures: Sequence[Figures], unknown: str) -> TextTable:
    model, site, variant, k, width, *_ = figures[0].place
    heading = (
        f"Reliability: {model}, {site}, {variant}, k = {'not stated' if k is None else k}, {width} latents"
    )
    return TextTable(heading, HEADER, tuple(map(_row, figures)), tuple(_notes(figures, unknown)))


def _row(each: Figures) -> tuple[str, ...]:
    task = f"{each.place.task} v{each.place.task_version}"
    view = f" ({each.place.view})" if each.place.view != "native" else ""
    return (
        task,
        ("*" if each.headline else "") + each.title + view,
        _number(each.mean),
        _number(each.reseed),
        _number(each.training),
        _number(each.discrimination, 2),
        _number(each.resolves, 2),
        _validity(each),
    )


def _validity(each: Figures) -> str:
    if each.truth is None:
        return "no truth"
    if each.is_truth:
        return "the truth"
    if each.validity is None or each.validity_p is None:
        return "—"
    p = "< 0.001" if each.validity_p < 0.001 else f"= {each.validity_p:.2g}"
    low, high = each.validity_low, each.validity_high
    interval = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    return f"{each.validity:+.2f}{interval}".replace("-", "−") + f" (p {p}, n = {each.validity_n})"


def _notes(figures: Sequence[Figures], unknown: str) -> Iterator[str]:
    reseeds, trainings = (max(getattr(each, name) for each in figures) for name in ("reseeds", "trainings"))
    yield (
        f"Reseed noise: standard deviation over {reseeds} evaluation seeds (data, splits, probes) of one "
        f"SAE. Training noise: standard deviation over {trainings} seeds of the SAE, at one evaluation seed."
    )
    yield (
        "Discrimination: standard deviation of the scores of SAEs trained on 5, 10, 25, 50 and 100 % of the "
        "tokens, each with its own schedule, over the noise √(reseed² + training²) of one score; near 1, the "
        "metric cannot tell them apart."
    )
    yield (
        f"Resolves: the smallest difference of two variants that {trainings} seeds resolve (two-sample t "
        "test at 5 %, power 80 %) if both kinds of noise differ between them; it is smaller if they share "
        "the evaluation seed."
    )
    truth = figures[0].truth
    yield _NO_TRUTH.format(unknown or "no task states it") if truth is None else _VALIDITY.format(truth)
    yield "*: headline metrics. —: not measured, for lack of values, or without any noise."


def _number(value: float | None, digits: int = 3) -> str:
    return "—" if value is None else f"{value:.{digits}g}"
